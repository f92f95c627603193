//! Finding a server (RFC 3263): what to ask name servers for, and in which order to try what that comes to.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::net::IpAddr;

use crate::sip::config::Transport;
use crate::sip::session::random_below;
use crate::sip::wire::Uri;
use crate::sip::wire::dns::{Kind, Record};

/// Hosts that one search comes to at most.
const MAX_HOPS: usize = 8;

/// A host to try. Its addresses are looked up as any host's.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Hop {
    /// How.
    pub transport: Transport,
    /// Name or address.
    pub host: String,
    /// Port.
    pub port: u16,
}

/// What comes next in a search.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Step {
    /// Ask for records of this kind and name.
    Ask(Kind, String),
    /// Try these, one after the other.
    Try(Vec<Hop>),
}

/// A search for the server of a URI.
#[derive(Debug)]
pub struct Search {
    host: String,
    usual: Transport,
    secure: bool,
    state: State,
    /// Names of services, the best first.
    services: VecDeque<(Transport, String)>,
    /// The domain said itself which they are; otherwise they are guessed, and the first that is there counts.
    told: bool,
    hops: Vec<Hop>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Naptr,
    Srv(Transport),
    Over,
}

impl Search {
    /// For the server of `uri` by `transport`; `any`: the name server may choose another.
    pub fn new(uri: &Uri, transport: Transport, any: bool) -> Self {
        let secure = uri.scheme == "sips" || transport == Transport::Tls;
        let usual = if secure && transport != Transport::Wss { Transport::Tls } else { transport };
        let mut search = Search {
            host: uri.host.clone(),
            usual,
            secure,
            state: State::Over,
            services: VecDeque::new(),
            told: false,
            hops: Vec::new(),
        };
        let special = ["localhost", "invalid"].iter().any(|name| last_label(&uri.host) == *name);
        if uri.host.parse::<IpAddr>().is_ok() || special {
            search.add(usual, &uri.host, uri.port.unwrap_or(usual.port()));
        } else if let Some(port) = uri.port {
            search.add(usual, &uri.host, port);
        } else if any {
            search.state = State::Naptr;
        } else {
            search.services.push_back((usual, service(usual, &uri.host)));
            search.next_service();
        }
        search
    }

    /// What comes next.
    pub fn step(&mut self) -> Step {
        match self.state {
            State::Naptr => Step::Ask(Kind::Naptr, self.host.clone()),
            State::Srv(_) => {
                Step::Ask(Kind::Srv, self.services.front().map(|(_, name)| name.clone()).unwrap_or_default())
            }
            State::Over => {
                if self.hops.is_empty() {
                    let host = self.host.clone();
                    self.add(self.usual, &host, self.usual.port());
                }
                Step::Try(self.hops.clone())
            }
        }
    }

    /// Takes what the last question came to; nothing, where it came to nothing.
    pub fn handle_records(&mut self, records: &[Record]) {
        match self.state {
            State::Naptr => {
                self.services = services(records, self.secure);
                self.told = !self.services.is_empty();
                if !self.told {
                    self.guess();
                }
                self.next_service();
            }
            State::Srv(transport) => {
                self.services.pop_front();
                for (host, port) in ordered(records) {
                    self.add(transport, &host, port);
                }
                if !self.told && !self.hops.is_empty() {
                    self.services.clear();
                }
                self.next_service();
            }
            State::Over => {}
        }
    }

    fn guess(&mut self) {
        let all: &[Transport] =
            if self.secure { &[Transport::Tls] } else { &[Transport::Udp, Transport::Tcp, Transport::Tls] };
        self.services = all.iter().map(|transport| (*transport, service(*transport, &self.host))).collect();
    }

    fn next_service(&mut self) {
        self.state = self.services.front().map_or(State::Over, |(transport, _)| State::Srv(*transport));
    }

    fn add(&mut self, transport: Transport, host: &str, port: u16) {
        let hop = Hop { transport, host: host.trim_end_matches('.').to_owned(), port };
        if self.hops.len() < MAX_HOPS && !self.hops.contains(&hop) && !hop.host.is_empty() {
            self.hops.push(hop);
        }
    }
}

fn last_label(host: &str) -> &str {
    host.trim_end_matches('.').rsplit('.').next().unwrap_or_default()
}

/// The name of a service of a domain (RFC 3263 §4.1).
fn service(transport: Transport, host: &str) -> String {
    match transport {
        Transport::Udp => format!("_sip._udp.{host}"),
        Transport::Tcp => format!("_sip._tcp.{host}"),
        Transport::Tls => format!("_sips._tcp.{host}"),
        // RFC 7118 §7.
        Transport::Ws => format!("_sip._ws.{host}"),
        Transport::Wss => format!("_sips._ws.{host}"),
    }
}

/// The services that a domain says it has, as far as we speak them, in its order.
fn services(records: &[Record], secure: bool) -> VecDeque<(Transport, String)> {
    let mut found: Vec<_> = records
        .iter()
        .filter_map(|record| match record {
            Record::Naptr { order, preference, flags, service, replacement } if flags == "s" => {
                let transport = match service.as_str() {
                    "SIPS+D2T" => Transport::Tls,
                    "SIP+D2U" if !secure => Transport::Udp,
                    "SIP+D2T" if !secure => Transport::Tcp,
                    _ => return None,
                };
                Some(((*order, *preference), transport, replacement.clone()))
            }
            _ => None,
        })
        .collect();
    found.sort_by_key(|(rank, ..)| *rank);
    found.into_iter().map(|(_, transport, name)| (transport, name)).collect()
}

/// Hosts and ports in the order in which they are to be tried: by priority, among equals by lot with their weights
/// (RFC 2782).
fn ordered(records: &[Record]) -> Vec<(String, u16)> {
    let mut left: Vec<_> = records
        .iter()
        .filter_map(|record| match record {
            Record::Srv { priority, weight, port, target } if !target.trim_matches('.').is_empty() => {
                Some((*priority, *weight, target.clone(), *port))
            }
            _ => None,
        })
        .collect();
    // Those without a weight first among their equals, so that the lot falls on them seldom.
    left.sort_by_key(|(priority, weight, ..)| (*priority, Reverse(*weight == 0)));
    let mut out = Vec::new();
    while let Some(best) = left.first().map(|(priority, ..)| *priority) {
        let equals = left.iter().take_while(|(priority, ..)| *priority == best);
        let total: u64 = equals.clone().map(|(_, weight, ..)| u64::from(*weight)).sum();
        let lot = random_below(total + 1);
        let mut sum = 0;
        let chosen = equals.clone().position(|(_, weight, ..)| {
            sum += u64::from(*weight);
            sum >= lot
        });
        let (_, _, host, port) = left.remove(chosen.unwrap_or(0));
        out.push((host, port));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn srv(priority: u16, weight: u16, target: &str, port: u16) -> Record {
        Record::Srv { priority, weight, port, target: target.into() }
    }

    fn naptr(order: u16, service: &str, replacement: &str) -> Record {
        Record::Naptr {
            order,
            preference: 0,
            flags: "s".into(),
            service: service.into(),
            replacement: replacement.into(),
        }
    }

    /// Searches with a name server that knows only `zone`.
    fn search(
        uri: &str,
        transport: Transport,
        any: bool,
        zone: &[(&str, &[Record])],
    ) -> (Vec<String>, Vec<Hop>) {
        let uri = Uri::parse(uri).expect("a URI");
        let mut search = Search::new(&uri, transport, any);
        let mut asked = Vec::new();
        loop {
            match search.step() {
                Step::Try(hops) => return (asked, hops),
                Step::Ask(_, name) => {
                    let known = zone.iter().find(|(known, _)| *known == name);
                    asked.push(name);
                    search.handle_records(known.map(|(_, records)| *records).unwrap_or_default());
                }
            }
        }
    }

    fn hop(transport: Transport, host: &str, port: u16) -> Hop {
        Hop { transport, host: host.into(), port }
    }

    #[test]
    fn addresses_and_ports_are_taken_as_they_stand() {
        for (uri, host, port) in [
            ("sip:192.0.2.1", "192.0.2.1", 5060),
            ("sip:[2001:db8::1]:5070", "2001:db8::1", 5070),
            ("sip:pbx.example:5080", "pbx.example", 5080),
            ("sip:localhost", "localhost", 5060),
            ("sip:x7f3.invalid", "x7f3.invalid", 5060),
        ] {
            let (asked, hops) = search(uri, Transport::Udp, true, &[]);
            assert_eq!((asked.len(), hops), (0, vec![hop(Transport::Udp, host, port)]), "{uri}");
        }
    }

    #[test]
    fn a_domain_says_how_and_where_it_is_reached() {
        let zone: &[(&str, &[Record])] = &[
            (
                "example.com",
                &[
                    naptr(20, "SIP+D2U", "_sip._udp.example.com"),
                    naptr(10, "SIPS+D2T", "_sips._tcp.example.com"),
                    naptr(5, "SIP+D2S", "_sip._sctp.example.com"),
                ],
            ),
            (
                "_sips._tcp.example.com",
                &[srv(2, 0, "b.example.com.", 5061), srv(1, 0, "a.example.com.", 5061)],
            ),
            ("_sip._udp.example.com", &[srv(1, 0, "c.example.com", 5060)]),
        ];
        let (_, hops) = search("sip:x@example.com", Transport::Udp, true, zone);
        let all = [
            hop(Transport::Tls, "a.example.com", 5061),
            hop(Transport::Tls, "b.example.com", 5061),
            hop(Transport::Udp, "c.example.com", 5060),
        ];
        assert_eq!(hops, all);
        let (asked, hops) = search("sips:x@example.com", Transport::Udp, true, zone);
        assert_eq!((asked.len(), hops.as_slice()), (2, &all[..2]), "nothing but TLS for sips");
        let (asked, hops) = search("sip:x@example.com", Transport::Udp, false, zone);
        assert_eq!((asked, hops.as_slice()), (vec!["_sip._udp.example.com".to_owned()], &all[2..]));
    }

    #[test]
    fn without_records_the_name_itself_is_called() {
        let (asked, hops) = search("sip:pbx.example", Transport::Udp, true, &[]);
        let names =
            ["pbx.example", "_sip._udp.pbx.example", "_sip._tcp.pbx.example", "_sips._tcp.pbx.example"];
        assert_eq!(asked, names);
        assert_eq!(hops, [hop(Transport::Udp, "pbx.example", 5060)]);
        let zone: &[(&str, &[Record])] = &[("_sip._tcp.pbx.example", &[srv(0, 0, "t.example", 5062)])];
        let (_, hops) = search("sip:pbx.example", Transport::Udp, true, zone);
        assert_eq!(hops, [hop(Transport::Tcp, "t.example", 5062)]);
        let (_, hops) = search("sips:pbx.example", Transport::Udp, true, zone);
        assert_eq!(hops, [hop(Transport::Tls, "pbx.example", 5061)]);
    }

    #[test]
    fn among_equals_the_lot_falls_by_weight() {
        let records =
            [srv(1, 75, "often", 1), srv(1, 25, "seldom", 1), srv(0, 0, "first", 1), srv(0, 0, ".", 1)];
        let mut often = 0;
        for _ in 0..1000 {
            let order = ordered(&records);
            assert_eq!((order.len(), order[0].0.as_str()), (3, "first"));
            often += usize::from(order[1].0 == "often");
        }
        assert!((650..850).contains(&often), "{often}");
    }
}
