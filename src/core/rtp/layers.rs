//! Layers within one stream: spatial ones (picture sizes) and temporal ones (frame rates), and what a packet
//! means to receivers of each (scalability: VP8 RFC 7741, VP9 RFC 9628, AV1 and others by dependency descriptor).
//!
//! A receiver is sent everything up to some layer, its *target*. A packet says by sets of targets: who needs it;
//! whose decoding is at an end when it is missing (its *chain*); who may begin with it. A [`LayerFilter`] keeps
//! what follows from that for one receiver: which targets are *whole*, that is, decodable from what the receiver
//! was sent, so that it may go over to them.

/// Layers told apart in each direction; what lies above counts as the highest.
const SIDE: u8 = 4;
const HIGHEST: u8 = SIDE - 1;

/// A layer of a stream, or as a target: all up to it.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Layer {
    /// 0 is the smallest picture.
    pub spatial: u8,
    /// 0 is the lowest frame rate.
    pub temporal: u8,
}

impl Layer {
    /// Everything there is.
    pub const TOP: Layer = Layer { spatial: HIGHEST, temporal: HIGHEST };

    /// The layer of these numbers, or the nearest that is told apart.
    pub const fn new(spatial: u8, temporal: u8) -> Layer {
        let spatial = if spatial > HIGHEST { HIGHEST } else { spatial };
        let temporal = if temporal > HIGHEST { HIGHEST } else { temporal };
        Layer { spatial, temporal }
    }

    /// The layer with this place in the order of all.
    pub const fn from_index(index: u8) -> Layer {
        Layer::new(index / SIDE, index % SIDE)
    }

    /// Its place in the order of all: below [`LayerSet::SIZE`].
    pub const fn index(self) -> u8 {
        self.spatial * SIDE + self.temporal
    }

    /// Whether a target of `self` gets all that one of `other` gets.
    pub const fn covers(self, other: Layer) -> bool {
        self.spatial >= other.spatial && self.temporal >= other.temporal
    }
}

/// A set of layers.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct LayerSet(u16);

impl LayerSet {
    /// How many layers there can be.
    pub const SIZE: u8 = SIDE * SIDE;
    /// None.
    pub const EMPTY: LayerSet = LayerSet(0);
    /// All.
    pub const ALL: LayerSet = LayerSet(u16::MAX);

    /// The set of those for which `has` is true.
    pub fn of(mut has: impl FnMut(Layer) -> bool) -> LayerSet {
        let mut set = LayerSet::EMPTY;
        for index in 0..LayerSet::SIZE {
            if has(Layer::from_index(index)) {
                set.0 |= 1 << index;
            }
        }
        set
    }

    /// Whether `layer` is in it.
    #[inline]
    pub const fn has(self, layer: Layer) -> bool {
        self.0 >> layer.index() & 1 == 1
    }

    /// Adds `layer`.
    pub const fn insert(&mut self, layer: Layer) {
        self.0 |= 1 << layer.index();
    }

    /// Whether there is none in it.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The layers in it, lowest first.
    pub fn iter(self) -> impl DoubleEndedIterator<Item = Layer> {
        (0..LayerSet::SIZE).map(Layer::from_index).filter(move |layer| self.has(*layer))
    }

    /// Those whose next lower temporal layer is in it.
    const fn above(self) -> LayerSet {
        // The lowest temporal layer of each spatial one has none below it.
        LayerSet((self.0 & 0x7777) << 1)
    }
}

/// What a packet means to receivers of each layer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LayerFacts {
    /// The layer of its frame.
    pub layer: Layer,
    /// It is the last packet of its frame, whose picture may go on with larger ones.
    pub ends: bool,
    /// Targets that need it.
    pub needed: LayerSet,
    /// Targets that cannot go on without it.
    pub chain: LayerSet,
    /// Targets that begin with its frame, whatever was before.
    pub restarts: LayerSet,
    /// Targets that begin with its frame where those of the next lower frame rate are whole.
    pub syncs: LayerSet,
    /// Targets that may be gone over to at its frame where they are whole.
    pub switches: LayerSet,
}

impl LayerFacts {
    /// A packet of a stream without layers; `keyframe`: decoding can start at its frame.
    pub const fn plain(keyframe: bool) -> LayerFacts {
        LayerFacts {
            layer: Layer { spatial: 0, temporal: 0 },
            ends: false,
            needed: LayerSet::ALL,
            chain: LayerSet::ALL,
            restarts: if keyframe { LayerSet::ALL } else { LayerSet::EMPTY },
            syncs: LayerSet::EMPTY,
            switches: LayerSet::ALL,
        }
    }

    /// Whether there are targets that do without it, or that may begin only at some frames.
    pub fn is_layered(&self) -> bool {
        self.needed != LayerSet::ALL || self.switches != LayerSet::ALL
    }
}

impl Default for LayerFacts {
    fn default() -> Self {
        LayerFacts::plain(false)
    }
}

/// Which packets of a layered stream one receiver gets. See the module.
#[derive(Clone, Copy, Debug)]
pub struct LayerFilter {
    current: Layer,
    target: Layer,
    whole: LayerSet,
    /// Timestamp and spatial layer of the newest frame.
    frame: Option<(u64, u8)>,
}

impl LayerFilter {
    /// One that lets everything up to `target` through, of a stream that begins with a frame all can begin with.
    pub fn new(target: Layer) -> Self {
        LayerFilter { current: target, target, whole: LayerSet::ALL, frame: None }
    }

    /// What the receiver shall get, as soon as it can.
    pub fn set_target(&mut self, target: Layer) {
        self.target = target;
    }

    /// What the receiver gets now.
    pub fn current(&self) -> Layer {
        self.current
    }

    /// What it shall get.
    pub fn target(&self) -> Layer {
        self.target
    }

    /// Whether it cannot go over to its target's picture size before a frame that all can begin with.
    pub fn needs_keyframe(&self) -> bool {
        self.current.spatial != self.target.spatial && !self.whole.has(self.target)
    }

    /// Whether a packet of the frame with `timestamp` is sent. Packets come in order.
    #[inline]
    pub fn take(&mut self, facts: &LayerFacts, timestamp: u64) -> bool {
        // The first that is here of a frame: its very first may still be on its way.
        let frame = Some((timestamp, facts.layer.spatial));
        if self.frame != frame {
            self.frame = frame;
            self.begin_frame(facts);
        }
        let sent = facts.needed.has(self.current);
        if !sent {
            self.whole.0 &= !facts.chain.0;
        }
        sent
    }

    /// Whether a late packet is sent, one of a frame before the newest.
    pub fn take_late(&self, facts: &LayerFacts) -> bool {
        facts.needed.has(self.current)
    }

    fn begin_frame(&mut self, facts: &LayerFacts) {
        self.whole.0 |= facts.restarts.0;
        self.whole.0 |= facts.syncs.0 & self.whole.above().0;
        if self.current != self.target {
            self.go_over(LayerSet(self.whole.0 & facts.switches.0));
        }
    }

    /// Goes over to the target, or as far towards it as can be: one that has more than now and no more than
    /// the target.
    fn go_over(&mut self, open: LayerSet) {
        if open.has(self.target) {
            self.current = self.target;
            return;
        }
        let step = |layer: &Layer| self.target.covers(*layer) && layer.covers(self.current);
        if let Some(layer) = open.iter().rev().find(step) {
            self.current = layer;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(spatial: u8, temporal: u8) -> Layer {
        Layer::new(spatial, temporal)
    }

    /// A frame of one spatial layer with temporal ones: `sync` where it refers to lower ones only.
    fn temporal(of: u8, sync: bool, keyframe: bool) -> LayerFacts {
        let needed = LayerSet::of(|target| target.temporal >= of);
        let syncs = LayerSet::of(|target| sync && of > 0 && target.temporal == of);
        LayerFacts { layer: layer(0, of), needed, chain: needed, syncs, ..LayerFacts::plain(keyframe) }
    }

    /// Filters one-packet frames, in order.
    struct Run(LayerFilter, u64);

    impl Run {
        fn take(&mut self, facts: LayerFacts) -> bool {
            self.1 += 1;
            self.0.take(&facts, self.1)
        }
    }

    #[test]
    fn sets() {
        let set = LayerSet::of(|at| at.spatial == 1);
        assert_eq!(set.iter().collect::<Vec<_>>(), (0..4).map(|t| layer(1, t)).collect::<Vec<_>>());
        assert!(
            !set.above().has(layer(1, 0)) && set.above().has(layer(1, 1)) && !set.above().has(layer(2, 0))
        );
        assert_eq!(Layer::from_index(Layer::new(9, 9).index()), Layer::TOP);
    }

    #[test]
    fn a_lower_frame_rate_is_taken_at_once_and_a_higher_one_at_a_sync() {
        let mut filter = Run(LayerFilter::new(layer(3, 2)), 0);
        assert!(filter.take(temporal(0, false, true)));
        assert!(filter.take(temporal(2, true, false)));
        filter.0.set_target(layer(3, 0));
        assert!(!filter.take(temporal(1, true, false)));
        assert!(!filter.take(temporal(2, false, false)));
        assert!(filter.take(temporal(0, false, false)));
        filter.0.set_target(layer(3, 2));
        assert!(!filter.take(temporal(2, true, false)), "refers to the middle layer, which is broken");
        assert!(!filter.take(temporal(1, false, false)), "refers to what was left out");
        assert!(filter.take(temporal(1, true, false)));
        assert_eq!(filter.0.current(), layer(3, 1));
        assert!(filter.take(temporal(2, true, false)));
        assert_eq!(filter.0.current(), layer(3, 2));
        assert!(filter.take(temporal(2, false, false)));
    }

    #[test]
    fn a_larger_picture_waits_for_a_keyframe_of_it() {
        let spatial = |of: u8, keyframe: bool| {
            let needed = LayerSet::of(|target| target.spatial >= of);
            let key = keyframe && of == 0;
            LayerFacts { layer: layer(of, 0), needed, chain: needed, ..LayerFacts::plain(key) }
        };
        let mut filter = Run(LayerFilter::new(layer(0, 3)), 0);
        assert!(filter.take(spatial(0, true)) && !filter.take(spatial(1, true)));
        filter.0.set_target(layer(1, 3));
        assert!(filter.take(spatial(0, false)) && !filter.take(spatial(1, false)));
        assert!(filter.0.needs_keyframe());
        assert!(filter.take(spatial(0, true)) && filter.take(spatial(1, true)));
        assert!(!filter.0.needs_keyframe());
        filter.0.set_target(layer(0, 3));
        assert!(filter.take(spatial(0, false)) && !filter.take(spatial(1, false)));
    }
}
