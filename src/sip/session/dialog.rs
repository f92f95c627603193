//! A dialog (RFC 3261 §12): who talks to whom by which way, and in which order.

use crate::sip::config::Transport;
use crate::sip::session::{Destination, Source};
use crate::sip::wire::via::Via;
use crate::sip::wire::{Headers, Method, NameAddr, Request, Response, Uri};

/// What names a dialog: Call-ID, our tag, theirs.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct DialogId {
    /// Call-ID.
    pub call_id: String,
    /// Our tag.
    pub local: String,
    /// Their tag.
    pub remote: String,
}

/// One side's view of a dialog.
#[derive(Clone, Debug)]
pub struct Dialog {
    /// Its name.
    pub id: DialogId,
    /// Our URI with our tag, as it stands in our From.
    local: String,
    /// Theirs with their tag, as it stands in our To.
    remote: String,
    /// Number of our last request.
    pub local_seq: u32,
    /// Number of their last request.
    remote_seq: Option<u32>,
    /// Where requests go in the end.
    pub target: Uri,
    /// By which way.
    routes: Vec<String>,
    /// Our Contact.
    pub contact: Uri,
    source: Source,
    /// Send to where their messages come from instead of to what they say (NAT).
    symmetric: bool,
}

impl Dialog {
    /// The dialog that our answer with `tag` to an INVITE makes (RFC 3261 §12.1.1).
    pub fn answering(invite: &Request, tag: &str, contact: Uri, source: Source) -> Option<Self> {
        let from = NameAddr::parse(invite.headers.get("From")?).ok()?;
        let to = NameAddr::parse(invite.headers.get("To")?).ok()?;
        let target = match invite.headers.all("Contact").next() {
            Some(contact) => NameAddr::parse(contact).ok()?.uri().ok()?,
            // A party of RFC 2543 is called where it says that it comes from.
            None if from.param("tag").is_none() => from.uri().ok()?,
            None => return None,
        };
        let id = DialogId {
            call_id: invite.headers.call_id().to_owned(),
            local: tag.to_owned(),
            remote: from.param("tag").unwrap_or_default().to_owned(),
        };
        let routes = invite.headers.all("Record-Route").map(str::to_owned).collect();
        Some(Dialog {
            id,
            local: to.without("tag").with_param("tag", tag).to_string(),
            remote: from.to_string(),
            local_seq: 0,
            remote_seq: invite.headers.cseq().map(|(number, _)| number),
            symmetric: behind_nat(&invite.headers, &target, source),
            target,
            routes,
            contact,
            source,
        })
    }

    /// The dialog that their answer to our INVITE makes (RFC 3261 §12.1.2).
    pub fn answered(invite: &Request, response: &Response, contact: Uri, source: Source) -> Option<Self> {
        let from = NameAddr::parse(invite.headers.get("From")?).ok()?;
        let to = NameAddr::parse(response.headers.get("To")?).ok()?;
        let named =
            response.headers.all("Contact").next().and_then(|text| NameAddr::parse(text).ok()?.uri().ok());
        let target = named.or_else(|| Uri::parse(&invite.uri).ok())?;
        let id = DialogId {
            call_id: invite.headers.call_id().to_owned(),
            local: from.param("tag")?.to_owned(),
            remote: to.param("tag").unwrap_or_default().to_owned(),
        };
        let mut routes: Vec<_> = response.headers.all("Record-Route").map(str::to_owned).collect();
        routes.reverse();
        Some(Dialog {
            id,
            local: from.to_string(),
            remote: to.to_string(),
            local_seq: invite.headers.cseq().map_or(1, |(number, _)| number),
            remote_seq: None,
            target,
            routes,
            contact,
            source,
            symmetric: false,
        })
    }

    /// A new request within the dialog (RFC 3261 §12.2.1.1).
    pub fn request(&mut self, method: Method) -> Request {
        self.local_seq += 1;
        self.request_numbered(method, self.local_seq)
    }

    /// The ACK of the 2xx to our INVITE numbered `seq`.
    pub fn ack(&self, seq: u32) -> Request {
        self.request_numbered(Method::Ack, seq)
    }

    fn request_numbered(&self, method: Method, seq: u32) -> Request {
        let loose = self.first_route().is_none_or(|route| route.param("lr").is_some());
        let mut routes = self.routes.clone();
        let uri = if loose {
            self.target.clone()
        } else {
            // A strict router (RFC 2543) wants itself as the request's URI and the target last.
            routes.push(NameAddr::new(&self.target).to_string());
            let first = routes.remove(0);
            NameAddr::parse(&first).ok().and_then(|r| r.uri().ok()).unwrap_or_else(|| self.target.clone())
        };
        let mut uri = uri;
        uri.headers = None;
        let needs_contact =
            matches!(method, Method::Invite | Method::Update | Method::Refer | Method::Notify);
        let text = format!("{seq} {method}");
        let mut request = Request::new(method, uri.to_string());
        let headers = &mut request.headers;
        headers.push("Max-Forwards", "70");
        headers.push("From", self.local.clone());
        headers.push("To", self.remote.clone());
        headers.push("Call-ID", self.id.call_id.clone());
        headers.push("CSeq", text);
        for route in routes {
            headers.push("Route", route);
        }
        if needs_contact {
            headers.push("Contact", NameAddr::new(&self.contact).to_string());
        }
        request
    }

    fn first_route(&self) -> Option<Uri> {
        NameAddr::parse(self.routes.first()?).ok()?.uri().ok()
    }

    /// Where a request within the dialog goes first.
    pub fn destination(&self) -> Destination {
        let uri = self.first_route().unwrap_or_else(|| self.target.clone());
        let addr = (self.symmetric && self.routes.is_empty()).then_some(self.source.addr);
        Destination {
            transport: transport_of(&uri, self.source.transport),
            uri,
            flow: self.source.flow,
            addr,
            any: false,
            routes: Vec::new(),
        }
    }

    /// Goes on numbering where the same dialog stood before it was answered.
    pub fn follow(&mut self, early: &Dialog) {
        self.local_seq = self.local_seq.max(early.local_seq);
        self.remote_seq = self.remote_seq.max(early.remote_seq);
    }

    /// Takes note of a request of theirs; `false` when it is older than one we had (RFC 3261 §12.2.2).
    pub fn accept(&mut self, request: &Request, source: Source) -> bool {
        let Some((number, _)) = request.headers.cseq() else { return false };
        if self.remote_seq.is_some_and(|last| number <= last) {
            return false;
        }
        self.remote_seq = Some(number);
        if matches!(request.method, Method::Invite | Method::Update) {
            self.refresh(&request.headers);
            self.symmetric = behind_nat(&request.headers, &self.target, source);
        }
        if source.transport == self.source.transport {
            self.source = source;
        }
        true
    }

    /// Takes the target of a request or response that may move it.
    pub fn refresh(&mut self, headers: &Headers) {
        let named = headers.all("Contact").next().and_then(|text| NameAddr::parse(text).ok()?.uri().ok());
        if let Some(target) = named {
            self.target = target;
        }
    }

    /// Their URI as it stood in From or To, without the tag.
    pub fn remote_party(&self) -> NameAddr {
        NameAddr::parse(&self.remote)
            .map(|name| name.without("tag"))
            .unwrap_or_else(|_| NameAddr::new(&self.target))
    }

    /// Our URI as it stood in From or To, without the tag.
    pub fn local_party(&self) -> NameAddr {
        NameAddr::parse(&self.local)
            .map(|name| name.without("tag"))
            .unwrap_or_else(|_| NameAddr::new(&self.contact))
    }

    /// Where its messages come from.
    pub fn source(&self) -> Source {
        self.source
    }
}

/// How a URI wants to be reached (RFC 3263 §4.1 without a name server's help).
pub fn transport_of(uri: &Uri, usual: Transport) -> Transport {
    let secure = uri.scheme == "sips";
    match uri.param("transport").map(str::to_ascii_lowercase).as_deref() {
        Some("tls") => Transport::Tls,
        Some("tcp") if secure => Transport::Tls,
        Some("tcp") => Transport::Tcp,
        Some("ws") if secure || usual == Transport::Wss => Transport::Wss,
        Some("ws" | "wss") => Transport::Ws,
        Some("udp") if !secure => Transport::Udp,
        _ if secure => Transport::Tls,
        _ => usual,
    }
}

/// Whether the party's own idea of its address differs from ours: then what it says in Contact will not
/// reach it, and where its messages come from will.
fn behind_nat(headers: &Headers, target: &Uri, source: Source) -> bool {
    let sent_by = headers.all("Via").next().and_then(|via| Via::parse(via).ok());
    let single_hop = headers.all("Via").count() == 1;
    let differs = sent_by.is_some_and(|via| via.host.parse() != Ok(source.addr.ip()));
    single_hop && differs && target.ip() != Some(source.addr.ip())
}
