//! Questions to a name server and its answers (RFC 1035), as far as finding a SIP server needs them: SRV (RFC 2782) and
//! NAPTR (RFC 3403).
#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, PacketFlag, Question, RCODE, TYPE};

use crate::sip::error::WireError;

/// What is asked for.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Kind {
    /// Which services a domain has.
    Naptr,
    /// Which hosts have a service.
    Srv,
}

/// One answer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Record {
    /// A service of a domain, in order and then by preference.
    Naptr {
        /// The lower first.
        order: u16,
        /// Among those of one order, the lower first.
        preference: u16,
        /// `s`: the replacement is to be asked for SRV.
        flags: String,
        /// `SIP+D2U`, `SIP+D2T`, `SIPS+D2T`.
        service: String,
        /// What to ask for next.
        replacement: String,
    },
    /// A host of a service.
    Srv {
        /// The lower first.
        priority: u16,
        /// How often it is chosen among those of one priority.
        weight: u16,
        /// Its port.
        port: u16,
        /// Its name; `.`: the service is not there.
        target: String,
    },
}

/// A whole answer.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Answer {
    /// What is there; nothing, where the name or the kind is not.
    pub records: Vec<Record>,
    /// Seconds that it may be kept; None where nothing says so.
    pub ttl: Option<u32>,
    /// More of it comes by TCP.
    pub truncated: bool,
}

/// A question as it goes to a name server. None: that is no name.
pub fn question(id: u16, name: &str, kind: Kind) -> Option<Vec<u8>> {
    let mut packet = Packet::new_query(id);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    let name = Name::new(name).ok()?;
    let kind = match kind {
        Kind::Naptr => TYPE::NAPTR,
        Kind::Srv => TYPE::SRV,
    };
    packet.questions.push(Question::new(name, kind.into(), CLASS::IN.into(), false));
    packet.build_bytes_vec().ok()
}

/// Reads the answer to question `id`; an answer to anything else is none.
pub fn answer(data: &[u8], id: u16) -> Result<Answer, WireError> {
    let bad = || WireError::Missing("DNS answer");
    let packet = Packet::parse(data).map_err(|_| bad())?;
    if packet.id() != id || !packet.has_flags(PacketFlag::RESPONSE) {
        return Err(bad());
    }
    match packet.rcode() {
        RCODE::NoError | RCODE::NameError => {}
        _ => return Err(bad()),
    }
    let records = packet.answers.iter().filter_map(|answer| match &answer.rdata {
        RData::NAPTR(naptr) => Some(Record::Naptr {
            order: naptr.order,
            preference: naptr.preference,
            flags: naptr.flags.to_string().to_ascii_lowercase(),
            service: naptr.services.to_string().to_ascii_uppercase(),
            replacement: naptr.replacement.to_string(),
        }),
        RData::SRV(srv) => Some(Record::Srv {
            priority: srv.priority,
            weight: srv.weight,
            port: srv.port,
            target: srv.target.to_string(),
        }),
        _ => None,
    });
    Ok(Answer {
        records: records.collect(),
        ttl: packet.answers.iter().map(|answer| answer.ttl).min(),
        truncated: packet.has_flags(PacketFlag::TRUNCATION),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use simple_dns::ResourceRecord;
    use simple_dns::rdata::SRV;

    #[test]
    fn an_answer_belongs_to_its_question() {
        let asked = question(7, "_sip._udp.example.com", Kind::Srv).expect("a question");
        let asked = Packet::parse(&asked).expect("a packet");
        assert_eq!(asked.questions.len(), 1);
        let mut reply = asked.into_reply();
        let target = Name::new_unchecked("sip1.example.com");
        let srv = SRV { priority: 10, weight: 60, port: 5060, target };
        let name = Name::new_unchecked("_sip._udp.example.com");
        reply.answers.push(ResourceRecord::new(name, CLASS::IN, 300, RData::SRV(srv)));
        let bytes = reply.build_bytes_vec_compressed().expect("bytes");
        let read = answer(&bytes, 7).expect("an answer");
        let target = "sip1.example.com".to_owned();
        assert_eq!(read.records, [Record::Srv { priority: 10, weight: 60, port: 5060, target }]);
        assert_eq!((read.ttl, read.truncated), (Some(300), false));
        assert!(answer(&bytes, 8).is_err() && answer(b"short", 7).is_err());
        assert!(question(1, &"a".repeat(64), Kind::Srv).is_none());
    }
}
