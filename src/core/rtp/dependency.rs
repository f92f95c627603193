//! The dependency descriptor (AV1 RTP payload specification 1.0, appendix A): a header extension that says, for any
//! codec, of which layer a frame is, which receivers need it and which may begin with it.
//!
//! A keyframe brings the structure: templates of frames, and *decode targets*, each a subset of the layers that
//! can be decoded by itself. Frames refer to a template and say what they have otherwise.
#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use crate::core::rtp::layers::{Layer, LayerFacts, LayerSet};

/// Length of a descriptor without extended fields.
const MANDATORY: usize = 3;
const MAX_TEMPLATES: usize = 64;
const MAX_TARGETS: usize = 32;

/// What a frame is to a decode target.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Indication {
    NotPresent,
    Discardable,
    Switch,
    Required,
}

impl Indication {
    fn read(bits: &mut Bits<'_>) -> Option<Indication> {
        Some(match bits.take(2)? {
            0 => Indication::NotPresent,
            1 => Indication::Discardable,
            2 => Indication::Switch,
            _ => Indication::Required,
        })
    }
}

#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Template {
    layer: Layer,
    indications: Vec<Indication>,
    /// How many frames ago each chain had its last frame; 0: the chain begins here.
    chains: Vec<u8>,
    /// What its frames mean that have nothing of their own.
    facts: LayerFacts,
}

/// The structure of a stream.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Structure {
    template_offset: u8,
    templates: Vec<Template>,
    /// Which chain protects each decode target.
    protected_by: Vec<u8>,
    /// By the index of a layer, the decode target that is all up to it.
    targets: Vec<u8>,
    dimensions: Option<(u16, u16)>,
}

/// Reads the descriptors of one stream, in order of arrival.
#[derive(Clone, Debug, Default)]
pub struct DependencyReader {
    structure: Option<Structure>,
    /// The frame read last, by its number.
    last: Option<(u16, LayerFacts)>,
}

impl DependencyReader {
    /// Reads a packet's descriptor; `None` while the structure is not known, or where it makes no sense.
    pub fn read(&mut self, element: &[u8]) -> Option<LayerFacts> {
        let mut bits = Bits::new(element);
        let _start = bits.take(1)?;
        let ends = bits.take(1)? == 1;
        let template = u8::try_from(bits.take(6)?).ok()?;
        let number = u16::try_from(bits.take(16)?).ok()?;
        if element.len() <= MANDATORY {
            // What a frame has of its own stands in its first packet only.
            if let Some((_, facts)) = self.last.filter(|(last, _)| *last == number) {
                return Some(LayerFacts { ends, ..facts });
            }
            let facts = self.structure.as_ref()?.template(template)?.facts;
            return self.note(number, facts, ends);
        }
        let [has_structure, has_active, own_indications, own_differences, own_chains] = [
            bits.take(1)? == 1,
            bits.take(1)? == 1,
            bits.take(1)? == 1,
            bits.take(1)? == 1,
            bits.take(1)? == 1,
        ];
        if has_structure {
            self.structure = Structure::read(&mut bits);
        }
        let structure = self.structure.as_ref()?;
        let count = structure.protected_by.len();
        if has_active {
            bits.take(u32::try_from(count).ok()?)?;
        }
        let template = structure.template(template)?;
        let mut facts = template.facts;
        if own_indications || own_chains {
            let mut indications = [Indication::Required; MAX_TARGETS];
            let indications = copy(&mut indications, &template.indications)?;
            let mut chains = [0; MAX_TARGETS];
            let chains = copy(&mut chains, &template.chains)?;
            if own_indications {
                for indication in &mut *indications {
                    *indication = Indication::read(&mut bits)?;
                }
            }
            if own_differences {
                skip_differences(&mut bits)?;
            }
            if own_chains {
                for chain in &mut *chains {
                    *chain = u8::try_from(bits.take(8)?).ok()?;
                }
            }
            facts = structure.facts(template.layer, indications, chains);
        }
        self.note(number, facts, ends)
    }

    fn note(&mut self, number: u16, facts: LayerFacts, ends: bool) -> Option<LayerFacts> {
        self.last = Some((number, facts));
        Some(LayerFacts { ends, ..facts })
    }

    /// Width and height of the largest picture, where the structure tells them.
    pub fn dimensions(&self) -> Option<(u16, u16)> {
        self.structure.as_ref()?.dimensions
    }
}

/// A copy of `from` in as much of `room`.
fn copy<'r, T: Copy>(room: &'r mut [T], from: &[T]) -> Option<&'r mut [T]> {
    let room = room.get_mut(..from.len())?;
    room.copy_from_slice(from);
    Some(room)
}

/// A frame's number.
pub fn frame_number(element: &[u8]) -> Option<u16> {
    element.get(1..)?.first_chunk::<2>().map(|bytes| u16::from_be_bytes(*bytes))
}

/// Adds `offset` to a frame's number.
pub fn renumber(element: &mut [u8], offset: u16) {
    let number = frame_number(element);
    if let (Some(number), Some(room)) =
        (number, element.get_mut(1..).and_then(|rest| rest.first_chunk_mut::<2>()))
    {
        *room = number.wrapping_add(offset).to_be_bytes();
    }
}

fn skip_differences(bits: &mut Bits<'_>) -> Option<()> {
    loop {
        let size = bits.take(2)?;
        if size == 0 {
            return Some(());
        }
        bits.take(size.checked_mul(4)?)?;
    }
}

impl Structure {
    fn read(bits: &mut Bits<'_>) -> Option<Structure> {
        let template_offset = u8::try_from(bits.take(6)?).ok()?;
        let count = usize::try_from(bits.take(5)?).ok()?.checked_add(1)?;
        let mut templates = template_layers(bits)?;
        for template in &mut templates {
            for _ in 0..count {
                template.indications.push(Indication::read(bits)?);
            }
        }
        for _ in &templates {
            while bits.take(1)? == 1 {
                bits.take(4)?;
            }
        }
        let chains = bits.below(u32::try_from(count).ok()?.checked_add(1)?)?;
        let mut protected_by = vec![0; count];
        if chains > 0 {
            for target in &mut protected_by {
                *target = u8::try_from(bits.below(chains)?).ok()?;
            }
            for template in &mut templates {
                for _ in 0..chains {
                    template.chains.push(u8::try_from(bits.take(4)?).ok()?);
                }
            }
        }
        let mut dimensions = None;
        if bits.take(1)? == 1 {
            let spatial = templates.iter().map(|template| template.layer.spatial).max()?;
            for _ in 0..=spatial {
                let width = u16::try_from(bits.take(16)?).ok()?.checked_add(1)?;
                let height = u16::try_from(bits.take(16)?).ok()?.checked_add(1)?;
                dimensions = Some((width, height));
            }
        }
        let targets = targets(&templates, count);
        let mut structure = Structure { template_offset, templates, protected_by, targets, dimensions };
        let of =
            |template: &Template| structure.facts(template.layer, &template.indications, &template.chains);
        let facts: Vec<_> = structure.templates.iter().map(of).collect();
        structure.templates.iter_mut().zip(facts).for_each(|(template, facts)| template.facts = facts);
        Some(structure)
    }

    fn template(&self, id: u8) -> Option<&Template> {
        let index = id.wrapping_sub(self.template_offset) & 0x3f;
        self.templates.get(usize::from(index))
    }

    fn facts(&self, layer: Layer, indications: &[Indication], chains: &[u8]) -> LayerFacts {
        let target = |at: Layer| usize::from(self.targets.get(usize::from(at.index())).copied().unwrap_or(0));
        let indication = |at: Layer| indications.get(target(at)).copied().unwrap_or(Indication::Required);
        let chain = |at: Layer| self.protected_by.get(target(at)).copied().unwrap_or(0);
        let needed = LayerSet::of(|at| indication(at) != Indication::NotPresent);
        let switches = LayerSet::of(|at| indication(at) == Indication::Switch);
        let plain = LayerFacts { layer, needed, switches, ..LayerFacts::plain(false) };
        if chains.is_empty() {
            // Nothing protects anybody: what one needs is what one cannot do without.
            return LayerFacts { chain: needed, restarts: switches, ..plain };
        }
        let begins = |at: Layer| chains.get(usize::from(chain(at))) == Some(&0);
        let restarts = LayerSet::of(|at| begins(at) && indication(at) != Indication::NotPresent);
        let chain = LayerSet::of(|at| self.is_in_chain(chain(at), indications));
        LayerFacts { chain, restarts, ..plain }
    }

    /// Whether a frame is part of a chain: one that the least of the targets it protects cannot do without.
    fn is_in_chain(&self, chain: u8, indications: &[Indication]) -> bool {
        let least = self.protected_by.iter().zip(indications).find(|(by, _)| **by == chain);
        least.is_some_and(|(_, is)| matches!(is, Indication::Switch | Indication::Required))
    }
}

fn template_layers(bits: &mut Bits<'_>) -> Option<Vec<Template>> {
    let (mut spatial, mut temporal) = (0u8, 0u8);
    let mut templates = Vec::new();
    loop {
        if templates.len() >= MAX_TEMPLATES {
            return None;
        }
        templates.push(Template { layer: Layer::new(spatial, temporal), ..Template::default() });
        match bits.take(2)? {
            0 => {}
            1 => temporal = temporal.checked_add(1)?,
            2 => (spatial, temporal) = (spatial.checked_add(1)?, 0),
            _ => return Some(templates),
        }
    }
}

/// By the index of a layer, the decode target that has most of what is not above the layer.
fn targets(templates: &[Template], count: usize) -> Vec<u8> {
    let reach = |target: usize| {
        let mut layer = Layer::default();
        for template in templates {
            if template.indications.get(target).is_some_and(|is| *is != Indication::NotPresent) {
                layer.spatial = layer.spatial.max(template.layer.spatial);
                layer.temporal = layer.temporal.max(template.layer.temporal);
            }
        }
        layer
    };
    let reaches: Vec<Layer> = (0..count.min(MAX_TARGETS)).map(reach).collect();
    let best = |layer: Layer| {
        let fitting = reaches.iter().enumerate().filter(|(_, reach)| layer.covers(**reach));
        let least = reaches.iter().enumerate().min_by_key(|(_, reach)| **reach);
        let best = fitting.max_by_key(|(_, reach)| **reach).or(least);
        best.and_then(|(target, _)| u8::try_from(target).ok()).unwrap_or(0)
    };
    (0..LayerSet::SIZE).map(|index| best(Layer::from_index(index))).collect()
}

/// Reads bits, most significant first.
struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Bits<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Bits { bytes, at: 0 }
    }

    /// The next `count` bits, at most 32.
    fn take(&mut self, count: u32) -> Option<u32> {
        let mut value = 0u32;
        for _ in 0..count {
            let byte = *self.bytes.get(self.at >> 3)?;
            let shift = 7u32.checked_sub(u32::try_from(self.at & 7).ok()?)?;
            value = value.wrapping_shl(1) | (u32::from(byte).wrapping_shr(shift) & 1);
            self.at = self.at.checked_add(1)?;
        }
        Some(value)
    }

    /// A value below `count`, coded in as few bits as that takes (`ns(n)`).
    fn below(&mut self, count: u32) -> Option<u32> {
        let width = 32u32.checked_sub(count.leading_zeros())?;
        let short = 1u32.checked_shl(width)?.checked_sub(count)?;
        let value = self.take(width.checked_sub(1)?)?;
        if value < short {
            return Some(value);
        }
        value.checked_mul(2)?.checked_sub(short)?.checked_add(self.take(1)?)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]
pub(crate) mod tests {
    use super::*;

    /// Writes bits, most significant first.
    #[derive(Default)]
    pub(crate) struct Writer(Vec<bool>);

    impl Writer {
        pub fn put(&mut self, value: u32, count: u32) {
            self.0.extend((0..count).rev().map(|bit| value >> bit & 1 == 1));
        }

        fn below(&mut self, value: u32, count: u32) {
            let width = 32 - count.leading_zeros();
            let short = (1 << width) - count;
            match value < short {
                true => self.put(value, width - 1),
                false => self.put(value + short, width),
            }
        }

        pub fn bytes(&self) -> Vec<u8> {
            let byte = |bits: &[bool]| {
                bits.iter().enumerate().fold(0, |byte, (at, bit)| byte | u8::from(*bit) << (7 - at))
            };
            self.0.chunks(8).map(byte).collect()
        }
    }

    /// One template: layer, indications as letters, references, chains.
    pub(crate) type Shape = (u8, u8, &'static str, &'static [u32], &'static [u32]);

    /// The structures browsers send, by their scalability modes.
    pub(crate) const L1T3: (&[Shape], &[u32]) = (
        &[
            (0, 0, "SSS", &[], &[0]),
            (0, 0, "SSS", &[4], &[4]),
            (0, 1, "-DS", &[2], &[2]),
            (0, 2, "--D", &[1], &[1]),
            (0, 2, "--D", &[1], &[3]),
        ],
        &[0, 0, 0],
    );
    pub(crate) const L2T1: (&[Shape], &[u32]) = (
        &[
            (0, 0, "SR", &[2], &[2, 1]),
            (0, 0, "SS", &[], &[0, 0]),
            (1, 0, "-S", &[2, 1], &[1, 1]),
            (1, 0, "-S", &[1], &[1, 1]),
        ],
        &[0, 1],
    );
    pub(crate) const L2T1_KEY: (&[Shape], &[u32]) = (
        &[
            (0, 0, "S-", &[2], &[2, 1]),
            (0, 0, "SS", &[], &[0, 0]),
            (1, 0, "-S", &[2], &[1, 2]),
            (1, 0, "-S", &[1], &[1, 1]),
        ],
        &[0, 1],
    );

    fn indication(letter: char) -> u32 {
        "-DSR".find(letter).unwrap() as u32
    }

    /// A descriptor of `template`, with the structure where `shape` is given.
    pub(crate) fn descriptor(
        (start, end): (bool, bool),
        template: u32,
        number: u16,
        shape: Option<(&[Shape], &[u32])>,
    ) -> Vec<u8> {
        let mut out = Writer::default();
        out.put(u32::from(start), 1);
        out.put(u32::from(end), 1);
        out.put(template, 6);
        out.put(u32::from(number), 16);
        let Some((templates, protected)) = shape else { return out.bytes() };
        out.put(0b10000, 5);
        out.put(0, 6);
        out.put(protected.len() as u32 - 1, 5);
        for (at, shape) in templates.iter().enumerate() {
            let next = templates.get(at + 1).map_or(3, |next| match (next.0 > shape.0, next.1 > shape.1) {
                (true, _) => 2,
                (_, true) => 1,
                _ => 0,
            });
            out.put(next, 2);
        }
        templates.iter().flat_map(|shape| shape.2.chars()).for_each(|letter| out.put(indication(letter), 2));
        for shape in templates {
            for difference in shape.3 {
                out.put(1, 1);
                out.put(difference - 1, 4);
            }
            out.put(0, 1);
        }
        let chains = templates[0].4.len() as u32;
        out.below(chains, protected.len() as u32 + 1);
        protected.iter().for_each(|by| out.below(*by, chains));
        templates.iter().flat_map(|shape| shape.4).for_each(|chain| out.put(*chain, 4));
        out.put(1, 1);
        for spatial in 0..=templates.iter().map(|shape| shape.0).max().unwrap() {
            out.put((320 << spatial) - 1, 16);
            out.put((180 << spatial) - 1, 16);
        }
        out.bytes()
    }

    #[test]
    fn temporal_layers() {
        let mut reader = DependencyReader::default();
        assert_eq!(reader.read(&descriptor((true, true), 2, 9, None)), None, "no structure yet");
        let key = reader.read(&descriptor((true, true), 0, 10, Some(L1T3))).unwrap();
        assert_eq!((key.restarts, key.needed, key.switches), (LayerSet::ALL, LayerSet::ALL, LayerSet::ALL));
        assert_eq!(reader.dimensions(), Some((320, 180)));
        let middle = reader.read(&descriptor((true, false), 2, 12, None)).unwrap();
        assert_eq!((middle.layer, middle.ends), (Layer::new(0, 1), false));
        assert!(middle.needed.has(Layer::new(0, 1)) && !middle.needed.has(Layer::new(3, 0)));
        assert!(middle.switches.has(Layer::new(0, 2)) && !middle.switches.has(Layer::new(0, 1)));
        assert_eq!(middle.chain, LayerSet::EMPTY, "the lowest layer alone protects all");
        assert!(reader.read(&descriptor((false, true), 2, 12, None)).unwrap().ends);
    }

    #[test]
    fn spatial_layers_and_those_without_dependence_on_smaller_ones() {
        for (shape, needs_smaller) in [(L2T1, true), (L2T1_KEY, false)] {
            let mut reader = DependencyReader::default();
            let key = reader.read(&descriptor((true, true), 1, 1, Some(shape))).unwrap();
            assert_eq!((key.restarts, key.layer), (LayerSet::ALL, Layer::new(0, 0)));
            assert_eq!(reader.dimensions(), Some((640, 360)));
            let upper = reader.read(&descriptor((true, true), 3, 2, None)).unwrap();
            assert!(!upper.needed.has(Layer::new(0, 3)) && upper.needed.has(Layer::new(1, 0)));
            assert!(upper.chain.has(Layer::new(1, 0)) && upper.restarts.is_empty());
            let smaller = reader.read(&descriptor((true, true), 0, 3, None)).unwrap();
            assert_eq!(smaller.needed.has(Layer::new(1, 0)), needs_smaller);
            assert_eq!(smaller.chain.has(Layer::new(1, 0)), needs_smaller);
        }
    }

    #[test]
    fn numbers_are_moved() {
        let mut element = descriptor((true, true), 1, 0xfffe, Some(L2T1));
        renumber(&mut element, 3);
        assert_eq!((frame_number(&element), element[0]), (Some(1), 0xc1));
        renumber(&mut [0xc1, 0], 1);
    }

    #[test]
    fn every_cut_and_every_flipped_bit_is_survived() {
        let whole = descriptor((true, true), 1, 7, Some(L2T1_KEY));
        for length in 0..whole.len() {
            let mut reader = DependencyReader::default();
            reader.read(&whole[..length]);
        }
        for bit in 0..whole.len() * 8 {
            let mut reader = DependencyReader::default();
            let mut broken = whole.clone();
            broken[bit / 8] ^= 0x80 >> (bit % 8);
            reader.read(&broken);
            reader.read(&[0x80, 0, 9]);
        }
    }
}
