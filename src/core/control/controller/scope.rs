//! The ids of one controller: it chooses them, the Dispatcher's stand for them on the workers, and neither side
//! ever sees the other's.
//!
//! A controller's ids are unique over routers, transports, producers and consumers, because an event names its
//! target by nothing else. It chooses from 1 to 2147483647; those above are given by the server.

use std::collections::{BTreeSet, HashMap};

use serde_json::Value;

use crate::core::control::controller::code::{Code, Fault};
use crate::core::id::{ConnId, WorkerId};

/// The first id that the server gives.
const FIRST_GIVEN: u32 = 1 << 31;

/// What an id stands for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    Router,
    Transport,
    Producer,
    Consumer,
    DataProducer,
    DataConsumer,
    /// Events of rooms; on no router.
    Watch,
}

/// Whose an entity is on the worker.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Owner {
    /// The controller's own.
    Controller,
    /// Of the peer by which the controller is in a room.
    Member(ConnId),
    /// Somebody else's in that room.
    Room(ConnId),
}

impl Kind {
    /// What is on a router, each.
    pub const ON_ROUTER: [Kind; 5] =
        [Kind::Transport, Kind::Producer, Kind::Consumer, Kind::DataProducer, Kind::DataConsumer];

    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Router => "router",
            Kind::Transport => "transport",
            Kind::Producer => "producer",
            Kind::Consumer => "consumer",
            Kind::DataProducer => "data producer",
            Kind::DataConsumer => "data consumer",
            Kind::Watch => "watch",
        }
    }

    /// Its key in `internal`.
    pub fn key(self) -> &'static str {
        match self {
            Kind::Router => "routerId",
            Kind::Transport => "transportId",
            Kind::Producer => "producerId",
            Kind::Consumer => "consumerId",
            Kind::DataProducer => "dataProducerId",
            Kind::DataConsumer => "dataConsumerId",
            Kind::Watch => "watchId",
        }
    }
}

/// An entity of a controller.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Entity {
    pub kind: Kind,
    pub owner: Owner,
    /// The Dispatcher's id.
    pub ours: u32,
    pub worker: WorkerId,
    /// The controller's id of the router it is on; a router's own.
    pub router: u32,
    /// The controller's id of the transport that it ends with.
    pub transport: Option<u32>,
}

impl Entity {
    /// One that is on no router of the controller's.
    pub fn alone(kind: Kind, owner: Owner, id: u32, ours: u32) -> Self {
        Entity { kind, owner, ours, worker: WorkerId(0), router: id, transport: None }
    }
}

/// See the module.
#[derive(Default)]
pub(super) struct Scope {
    entities: HashMap<u32, Entity>,
    by_ours: HashMap<u32, u32>,
    /// The same of what is somebody else's in a room, by the attached router as well: a controller may be in one room
    /// more than once.
    seen: HashMap<(u32, u32), u32>,
    /// What is on each router.
    routers: HashMap<u32, BTreeSet<u32>>,
    given: u32,
}

impl Scope {
    pub fn len(&self) -> usize {
        self.entities.len()
    }

    /// Gives back the room that tables needed once.
    pub fn shrink(&mut self) {
        self.entities.shrink_to_fit();
        self.by_ours.shrink_to_fit();
        self.seen.shrink_to_fit();
        self.routers.shrink_to_fit();
    }

    /// The routers by their ids.
    pub fn routers(&self) -> Vec<u32> {
        self.routers.keys().copied().collect()
    }

    /// How many there are of a kind.
    pub fn count(&self, kind: Kind) -> usize {
        self.entities.values().filter(|entity| entity.kind == kind).count()
    }

    /// The ids of a kind.
    pub fn all(&self, kind: Kind) -> Vec<u32> {
        self.entities.iter().filter(|(_, entity)| entity.kind == kind).map(|(id, _)| *id).collect()
    }

    /// The entity of an id, if it is of that kind.
    pub fn get(&self, id: u32, kind: Kind) -> Result<Entity, Fault> {
        let found = self.entities.get(&id).filter(|entity| entity.kind == kind);
        found.copied().ok_or_else(|| Fault::new(Code::UnknownId, format!("no {} {id}", kind.as_str())))
    }

    /// The controller's id of one of the Dispatcher's.
    pub fn theirs(&self, ours: u32) -> Option<(u32, Entity)> {
        let id = *self.by_ours.get(&ours)?;
        Some((id, *self.entities.get(&id)?))
    }

    /// The controller's id of what is somebody else's in a room, as it is seen from an attached router.
    pub fn seen(&self, router: u32, ours: u32) -> Option<u32> {
        self.seen.get(&(router, ours)).copied()
    }

    /// Whether the controller may use an id for something new.
    pub fn check_new(&self, id: u32) -> Result<(), Fault> {
        if id == 0 || id >= FIRST_GIVEN {
            let reason = format!("{id} is no id that a controller can choose: from 1 to {}", FIRST_GIVEN - 1);
            return Err(Fault::new(Code::BadData, reason));
        }
        match self.entities.get(&id) {
            None => Ok(()),
            Some(entity) => {
                let reason = format!("{id} is a {} already", entity.kind.as_str());
                Err(Fault::new(Code::DuplicateId, reason))
            }
        }
    }

    /// An id that the server gives.
    pub fn give(&mut self) -> u32 {
        loop {
            let id = FIRST_GIVEN | self.given;
            self.given = self.given.wrapping_add(1) & (FIRST_GIVEN - 1);
            if !self.entities.contains_key(&id) {
                return id;
            }
        }
    }

    /// Enters an entity.
    pub fn insert(&mut self, id: u32, entity: Entity) {
        self.entities.insert(id, entity);
        match entity.owner {
            Owner::Room(_) => self.seen.insert((entity.router, entity.ours), id),
            _ => self.by_ours.insert(entity.ours, id),
        };
        match entity.kind {
            Kind::Router => drop(self.routers.entry(id).or_default()),
            Kind::Watch => {}
            _ => drop(self.routers.entry(entity.router).or_default().insert(id)),
        }
    }

    /// An entity ends with a transport from now on.
    pub fn set_transport(&mut self, id: u32, transport: u32) {
        if let Some(entity) = self.entities.get_mut(&id) {
            entity.transport = Some(transport);
        }
    }

    /// Another entity of the Dispatcher's stands for an id from now on.
    pub fn rebind(&mut self, id: u32, ours: u32) {
        if let Some(entity) = self.entities.get_mut(&id) {
            self.by_ours.remove(&entity.ours);
            entity.ours = ours;
            self.by_ours.insert(ours, id);
        }
    }

    /// Takes an entity out, a router with all that is on it; consumers first, the router last.
    pub fn remove(&mut self, id: u32) -> Vec<(u32, Entity)> {
        let Some(entity) = self.entities.get(&id).copied() else { return Vec::new() };
        let mut gone: Vec<u32> = match entity.kind {
            Kind::Router => self.routers.get(&id).into_iter().flatten().copied().collect(),
            // Consumers stay, on no transport.
            Kind::Transport => self.gone_with(id, entity.router),
            _ => Vec::new(),
        };
        gone.push(id);
        let mut gone: Vec<(u32, Entity)> = gone.into_iter().filter_map(|id| self.take(id)).collect();
        gone.sort_by_key(|(_, entity)| match entity.kind {
            Kind::Consumer | Kind::DataConsumer => 0,
            Kind::Producer | Kind::DataProducer => 1,
            Kind::Transport => 2,
            Kind::Router | Kind::Watch => 3,
        });
        gone
    }

    fn gone_with(&self, transport: u32, router: u32) -> Vec<u32> {
        let on_router = self.routers.get(&router).into_iter().flatten().copied();
        let by = |id: &u32| self.entities.get(id).is_some_and(|entity| entity.transport == Some(transport));
        on_router.filter(by).collect()
    }

    fn take(&mut self, id: u32) -> Option<(u32, Entity)> {
        let entity = self.entities.remove(&id)?;
        match entity.owner {
            Owner::Room(_) => self.seen.remove(&(entity.router, entity.ours)),
            _ => self.by_ours.remove(&entity.ours),
        };
        if entity.kind == Kind::Router {
            self.routers.remove(&id);
        } else if let Some(on_router) = self.routers.get_mut(&entity.router) {
            on_router.remove(&id);
        }
        Some((id, entity))
    }

    /// Puts the controller's ids into what a worker said. An id that is not the controller's becomes null.
    /// `router`: the attached one it was said of.
    pub fn translate(&self, router: Option<u32>, value: &mut Value) {
        match value {
            Value::Array(list) => list.iter_mut().for_each(|entry| self.translate(router, entry)),
            Value::Object(map) => {
                for (key, value) in map {
                    match key.as_str() {
                        "routerId" | "transportId" | "producerId" | "consumerId" | "sourceProducerId"
                        | "dataProducerId" | "dataConsumerId" => self.translate_id(router, value),
                        "mapProducerConsumers" | "mapConsumerProducer" => {
                            self.translate_map(router, value, true)
                        }
                        "ssrcTable" | "muxIdTable" | "ridTable" => self.translate_map(router, value, false),
                        // What a party said of itself holds no ids.
                        "rtpParameters" => {}
                        _ => self.translate(router, value),
                    }
                }
            }
            _ => {}
        }
    }

    fn called(&self, router: Option<u32>, ours: u32) -> Option<u32> {
        let own = self.by_ours.get(&ours).copied();
        own.or_else(|| router.and_then(|router| self.seen(router, ours)))
    }

    /// The same for the entries `[producerId, dBov]` of `audiolevels`.
    pub fn translate_levels(&self, data: &mut Value) {
        let entries = data.get_mut("entries").and_then(Value::as_array_mut);
        for entry in entries.into_iter().flatten() {
            if let Some(id) = entry.get_mut(0) {
                self.translate_id(None, id);
            }
        }
    }

    /// A number, or a number as a text.
    pub fn translate_id(&self, router: Option<u32>, value: &mut Value) {
        let number = value.as_u64().or_else(|| value.as_str().and_then(|text| text.parse().ok()));
        let ours = number.and_then(|number| u32::try_from(number).ok());
        let theirs = ours.and_then(|ours| self.called(router, ours));
        *value = match (theirs, &*value) {
            (Some(id), Value::String(_)) => Value::String(id.to_string()),
            (Some(id), _) => Value::from(id),
            (None, _) => Value::Null,
        };
    }

    /// An object of ids, or of lists of ids; by ids, or by something else.
    fn translate_map(&self, router: Option<u32>, value: &mut Value, by_id: bool) {
        let Some(map) = value.as_object_mut() else { return };
        let entries = std::mem::take(map);
        for (key, mut value) in entries {
            match &mut value {
                Value::Array(list) => list.iter_mut().for_each(|id| self.translate_id(router, id)),
                id => self.translate_id(router, id),
            }
            let key = match by_id {
                false => Some(key),
                true => key.parse().ok().and_then(|ours| self.called(router, ours)).map(|id| id.to_string()),
            };
            if let Some(key) = key {
                map.insert(key, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn entity(kind: Kind, ours: u32, transport: Option<u32>) -> Entity {
        Entity { kind, owner: Owner::Controller, ours, worker: WorkerId(0), router: 1, transport }
    }

    fn scope() -> Scope {
        let mut scope = Scope::default();
        scope.insert(1, entity(Kind::Router, 11, None));
        scope.insert(2, entity(Kind::Transport, 12, None));
        scope.insert(3, entity(Kind::Producer, 13, Some(2)));
        scope.insert(4, entity(Kind::Consumer, 14, None));
        scope
    }

    #[test]
    fn an_id_is_one_thing() {
        let scope = scope();
        assert_eq!(scope.get(2, Kind::Transport), Ok(entity(Kind::Transport, 12, None)));
        assert_eq!(scope.get(2, Kind::Producer).map_err(|fault| fault.code), Err(Code::UnknownId));
        assert_eq!(scope.check_new(3).map_err(|fault| fault.code), Err(Code::DuplicateId));
        assert_eq!(scope.check_new(5), Ok(()));
        for none in [0, FIRST_GIVEN, u32::MAX] {
            assert_eq!(scope.check_new(none).map_err(|fault| fault.code), Err(Code::BadData));
        }
    }

    #[test]
    fn ids_that_are_given_do_not_meet() {
        let mut scope = scope();
        let first = scope.give();
        scope.insert(first, entity(Kind::Producer, 20, None));
        scope.given = 0;
        assert_eq!(scope.give(), first + 1);
    }

    #[test]
    fn what_is_on_it_goes_with_it() {
        let ids = |gone: Vec<(u32, Entity)>| gone.into_iter().map(|(id, _)| id).collect::<Vec<_>>();
        let mut scope = scope();
        assert_eq!(ids(scope.remove(2)), [3, 2]);
        assert_eq!(ids(scope.remove(1)), [4, 1]);
        assert_eq!((scope.len(), scope.by_ours.len(), scope.routers.len()), (0, 0, 0));
        assert_eq!(ids(scope.remove(1)), Vec::<u32>::new());
    }

    #[test]
    fn dumps_speak_the_controllers_ids() {
        let mut dump = json!({
            "routerId": 11,
            "transports": [{"transportId": 12, "rtpListener": {"ssrcTable": {"77": 13}, "ridTable": {"a": "13"}}}],
            "consumers": [{"consumerId": 14, "sourceProducerId": 99}],
            "producers": [{"producerId": 13, "rtpParameters": {"routerId": 11}}],
            "mapProducerConsumers": {"13": ["14"], "99": []},
            "mapConsumerProducer": {"14": "13"},
        });
        scope().translate(None, &mut dump);
        assert_eq!(
            dump,
            json!({
                "routerId": 1,
                "transports": [{"transportId": 2, "rtpListener": {"ssrcTable": {"77": 3}, "ridTable": {"a": "3"}}}],
                "consumers": [{"consumerId": 4, "sourceProducerId": null}],
                "producers": [{"producerId": 3, "rtpParameters": {"routerId": 11}}],
                "mapProducerConsumers": {"3": ["4"]},
                "mapConsumerProducer": {"4": "3"},
            })
        );
        let mut levels = json!({"entries": [[13, -20]]});
        scope().translate_levels(&mut levels);
        assert_eq!(levels, json!({"entries": [[3, -20]]}));
    }
}
