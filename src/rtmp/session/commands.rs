//! Commands of a publisher and their answers (specification 1.0, section 7.2).

use std::time::Instant;

use crate::core::session::Ending;
use crate::rtmp::session::{OUR_CODECS, Phase, RtmpSession, link, status};
use crate::rtmp::wire::amf0::{self, Value};
use crate::rtmp::wire::kind;
use crate::rtmp::{PublishRequest, RtmpError};

/// The one message stream a connection gets.
const MEDIA_STREAM: f64 = 1.0;
/// Dynamic limit of Set Peer Bandwidth.
const DYNAMIC: u8 = 2;

impl RtmpSession {
    pub(super) fn take_command(&mut self, now: Instant, stream: u32, body: &[u8]) -> Result<(), RtmpError> {
        let values = amf0::Reader::new(body, self.config.amf_limits()).all()?;
        let name = values.first().and_then(Value::as_str).ok_or(RtmpError::Amf("a command without name"))?;
        let transaction = values.get(1).and_then(Value::as_number).unwrap_or_default();
        let argument = |index: usize| values.get(index).and_then(Value::as_str);
        match name {
            "connect" => return self.connect(transaction, values.get(2).unwrap_or(&Value::Null)),
            "createStream" => self.answer(transaction, Value::Null, Value::Number(MEDIA_STREAM)),
            "publish" => return self.publish(stream, argument(3)),
            "play" | "play2" => self.refuse_play(stream),
            "FCPublish" => {
                self.answer(transaction, Value::Null, Value::Null);
                let info = status("status", "NetStream.Publish.Start", "go on and publish");
                self.link
                    .send_command(0, &[Value::text("onFCPublish"), Value::Number(0.0), Value::Null, info]);
            }
            "FCUnpublish" => {
                let info = status("status", "NetStream.Unpublish.Success", "stopped publishing");
                self.link
                    .send_command(0, &[Value::text("onFCUnpublish"), Value::Number(0.0), Value::Null, info]);
                // Encoders that say it close before deleteStream is sure to arrive.
                self.unpublish();
            }
            "closeStream" | "deleteStream" => self.unpublish(),
            "releaseStream" | "getStreamLength" => self.answer(transaction, Value::Null, Value::Null),
            "_checkbw" | "checkBandwidth" | "_result" | "_error" | "onStatus" => {}
            _ if transaction > 0.0 => {
                let info = status("error", "NetConnection.Call.Failed", "no such command here");
                self.link
                    .send_command(0, &[Value::text("_error"), Value::Number(transaction), Value::Null, info]);
            }
            _ => {}
        }
        let _ = now;
        Ok(())
    }

    fn answer(&mut self, transaction: f64, properties: Value, information: Value) {
        self.link
            .send_command(0, &[Value::text("_result"), Value::Number(transaction), properties, information]);
    }

    fn connect(&mut self, transaction: f64, properties: &Value) -> Result<(), RtmpError> {
        if self.app.is_some() {
            return Err(RtmpError::BadOrder("connect came twice"));
        }
        let text = |name| properties.get(name).and_then(Value::as_str);
        self.app = Some(text("app").unwrap_or_default().to_owned());
        self.host = text("tcUrl").and_then(host_of);
        self.encoder = text("flashVer").map(|text| text.chars().take(128).collect());
        let window = self.config.window_bytes.to_be_bytes();
        self.link.send(link::CONTROL_CHUNKS, 0, kind::WINDOW_ACK_SIZE, window.to_vec());
        let bandwidth = [window.as_slice(), &[DYNAMIC]].concat();
        self.link.send(link::CONTROL_CHUNKS, 0, kind::SET_PEER_BANDWIDTH, bandwidth);
        self.link.enlarge_chunks();
        let asks = properties.get("fourCcList").is_some() || properties.get("videoFourCcInfoMap").is_some();
        let (properties, information) = connected(asks);
        self.answer(transaction, properties, information);
        Ok(())
    }

    fn publish(&mut self, stream: u32, name: Option<&str>) -> Result<(), RtmpError> {
        let Some(app) = self.app.clone() else {
            return Err(RtmpError::BadOrder("publish came before connect"));
        };
        if !matches!(self.phase, Phase::Commands) {
            return Err(RtmpError::BadOrder("publish came twice"));
        }
        self.phase = Phase::Waiting;
        self.deadline = None;
        self.stream = stream;
        let stream = name.unwrap_or_default().to_owned();
        self.request = Some(PublishRequest { app, stream, host: self.host.clone() });
        Ok(())
    }

    fn refuse_play(&mut self, stream: u32) {
        if matches!(self.phase, Phase::Commands) {
            let text = "streams are not played over RTMP here; open the room's page in a browser";
            self.stream = stream;
            self.send_status("error", "NetStream.Play.Failed", text);
            self.end("asked to play, which is not done over RTMP", Ending::Closed);
        }
    }

    fn unpublish(&mut self) {
        if matches!(self.phase, Phase::Live(_)) {
            self.send_status("status", "NetStream.Unpublish.Success", "stopped publishing");
            self.end("the publisher stopped", Ending::Left);
        }
    }
}

/// The answer to `connect`: properties and information.
fn connected(asks_for_codecs: bool) -> (Value, Value) {
    let properties = Value::object([
        ("fmsVer", Value::text("FMS/3,5,7,7009")),
        ("capabilities", Value::Number(31.0)),
        ("mode", Value::Number(1.0)),
    ]);
    let mut information = status("status", "NetConnection.Connect.Success", "connected");
    if let Value::Object(members) = &mut information {
        members.push(("objectEncoding".to_owned(), Value::Number(0.0)));
        if asks_for_codecs {
            let codecs = OUR_CODECS.iter().map(|name| Value::text(name)).collect();
            members.push(("fourCcList".to_owned(), Value::Array(codecs)));
        }
    }
    (properties, information)
}

/// The host of `rtmp://host:port/app`.
fn host_of(url: &str) -> Option<String> {
    let authority = url.split_once("://")?.1.split(['/', '?']).next()?;
    let host = match authority.strip_prefix('[') {
        Some(literal) => literal.split(']').next()?,
        None => authority.split(':').next()?,
    };
    Some(host.to_owned()).filter(|host| !host.is_empty())
}
