//! Plain RTP legs as their maker describes them: what our side offers and what the remote side's SDP says
//! (RFC 3264, RFC 3605, RFC 4568, RFC 4733, RFC 5761). They travel to the worker as the data of
//! `router.createPlainRtpTransport` and `transport.setRemoteParameters`; fields that the v2 worker channel
//! does not have carry the prefix `x.`.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::core::id::TransportId;
use crate::core::message::DtlsParameters;
use crate::core::rtp::keys::{KeyingMaterial, SrtpProfile};

/// One side's SRTP keys as `a=crypto` carries them (RFC 4568). They do not print themselves.
#[derive(Clone, Deserialize, Eq, PartialEq, Serialize)]
pub struct SdesKeys {
    /// The protection profile.
    #[serde(with = "suite")]
    pub profile: SrtpProfile,
    /// Master key and, behind it, the salt: 30 bytes for AES_CM_128, 28 or 44 for AEAD_AES_*_GCM.
    #[serde(serialize_with = "to_hex", deserialize_with = "from_hex")]
    pub inline: Vec<u8>,
}

impl SdesKeys {
    /// Bytes of key and of salt that `profile` needs.
    pub fn lengths(profile: SrtpProfile) -> (usize, usize) {
        match profile {
            SrtpProfile::Aes128CmSha1_80 | SrtpProfile::Aes128CmSha1_32 => (16, 14),
            SrtpProfile::AeadAes128Gcm => (16, 12),
            SrtpProfile::AeadAes256Gcm => (32, 12),
        }
    }

    /// Keys of `inline` bytes; `None` when they are not as many as the profile needs.
    pub fn new(profile: SrtpProfile, inline: Vec<u8>) -> Option<Self> {
        let (key, salt) = Self::lengths(profile);
        (inline.len() == key + salt).then_some(SdesKeys { profile, inline })
    }

    /// Key and salt, apart; `None` when the length is wrong.
    pub fn material(&self) -> Option<KeyingMaterial> {
        let (key, salt) = Self::lengths(self.profile);
        let (key, rest) = self.inline.split_at_checked(key)?;
        (rest.len() == salt).then(|| KeyingMaterial { key: key.to_vec(), salt: rest.to_vec() })
    }
}

impl std::fmt::Debug for SdesKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SdesKeys").field("profile", &self.profile).finish_non_exhaustive()
    }
}

/// What our side of a plain transport is to be.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct PlainOptions {
    /// RTP and RTCP on one port from the start; else a pair of ports, even and odd. Where the remote side
    /// agrees to it later, a pair falls back to one port by [`PlainRemote::rtcp_mux`]. The v2 worker channel
    /// knows nothing but one port, so that is meant where nothing is said.
    #[serde(rename = "x.rtcpMux", default = "yes")]
    pub rtcp_mux: bool,
    /// Learn the remote address from what arrives (symmetric RTP) instead of trusting the one told. Doors
    /// want it; a controller of the v2 worker channel that does not say so means the address it names, and
    /// may receive from other ports of that host.
    #[serde(rename = "x.latch", default)]
    pub latch: bool,
    /// The address to listen on, and to tell; what the configuration says when not given.
    #[serde(rename = "localIP", skip_serializing_if = "Option::is_none")]
    pub local_ip: Option<IpAddr>,
    /// An IPv6 address, where any will do.
    #[serde(rename = "preferIPv6")]
    pub ipv6: bool,
    /// The keys that protect what we send.
    #[serde(rename = "x.srtpLocal", skip_serializing_if = "Option::is_none")]
    pub srtp_local: Option<SdesKeys>,
    /// Keys come from a DTLS handshake on the RTP port (RFC 5764); nothing flows in the clear.
    #[serde(rename = "x.dtls")]
    pub dtls: bool,
    /// Milliseconds without a packet, while the remote side should send, after which the leg counts as
    /// dead; the configured time when not given, 0 for never.
    #[serde(rename = "x.mediaTimeoutMs", skip_serializing_if = "Option::is_none")]
    pub media_timeout_ms: Option<u64>,
}

impl Default for PlainOptions {
    fn default() -> Self {
        PlainOptions {
            rtcp_mux: false,
            latch: true,
            local_ip: None,
            ipv6: false,
            srtp_local: None,
            dtls: false,
            media_timeout_ms: None,
        }
    }
}

/// The remote side of a plain transport, as its SDP says.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct PlainRemote {
    /// Where it wants RTP.
    #[serde(flatten, with = "v2_address")]
    pub rtp: SocketAddr,
    /// Where it wants RTCP, when the SDP says so (`a=rtcp`); else the next port.
    #[serde(rename = "x.rtcp", default, skip_serializing_if = "Option::is_none")]
    pub rtcp: Option<SocketAddr>,
    /// RTCP shares the RTP port (`a=rtcp-mux` on both sides), as it does where nothing is said.
    #[serde(rename = "x.rtcpMux", default = "yes")]
    pub rtcp_mux: bool,
    /// The keys that protect what it sends.
    #[serde(rename = "x.srtp", default, skip_serializing_if = "Option::is_none")]
    pub srtp: Option<SdesKeys>,
    /// The keys that protect what we send, where they were not known when the transport was made (the
    /// remote side chose one of several `a=crypto` lines).
    #[serde(rename = "x.srtpLocal", default, skip_serializing_if = "Option::is_none")]
    pub srtp_local: Option<SdesKeys>,
    /// Payload types of `telephone-event` it sends and takes, each with its clock rate.
    #[serde(rename = "x.dtmf", default)]
    pub dtmf_payload_types: Vec<(u8, u32)>,
    /// Whether it sends media now: `false` while it, or we, put the call on hold so that nothing is to
    /// come. Then silence is no fault.
    #[serde(rename = "x.sends", default = "yes")]
    pub sends: bool,
    /// Whether it wants media now (`sendonly` and `inactive` say no).
    #[serde(rename = "x.receives", default = "yes")]
    pub receives: bool,
}

impl PlainRemote {
    /// A remote side at `rtp` with everything else usual.
    pub fn at(rtp: SocketAddr) -> Self {
        PlainRemote {
            rtp,
            rtcp: None,
            rtcp_mux: false,
            srtp: None,
            srtp_local: None,
            dtmf_payload_types: Vec::new(),
            sends: true,
            receives: true,
        }
    }
}

/// Our side of a plain transport: what its maker needs of its dump.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct PlainTransport {
    /// The transport.
    #[serde(rename = "transportId")]
    pub id: TransportId,
    /// The address to tell the remote side (announced, or the socket's own).
    #[serde(rename = "localIP")]
    pub ip: IpAddr,
    /// The RTP port.
    #[serde(rename = "localPort")]
    pub port: u16,
    /// The RTCP port, where it is not the RTP port.
    #[serde(rename = "x.rtcpPort", default, skip_serializing_if = "Option::is_none")]
    pub rtcp_port: Option<u16>,
    /// Our certificate and role, where there is a DTLS handshake.
    #[serde(rename = "dtlsLocalParameters", default, skip_serializing_if = "Option::is_none")]
    pub dtls: Option<DtlsParameters>,
}

fn yes() -> bool {
    true
}

/// `{"ip", "port"}`, as the v2 worker channel has them.
mod v2_address {
    use super::*;

    #[derive(Deserialize, Serialize)]
    struct Address {
        ip: IpAddr,
        port: u16,
    }

    pub fn serialize<S: Serializer>(address: &SocketAddr, serializer: S) -> Result<S::Ok, S::Error> {
        Address { ip: address.ip(), port: address.port() }.serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
        let address = Address::deserialize(deserializer)?;
        Ok(SocketAddr::new(address.ip, address.port))
    }
}

/// The suites by their names in `a=crypto` (RFC 4568 §6.2, RFC 7714 §14.2).
mod suite {
    use super::*;

    #[derive(Deserialize, Serialize)]
    enum Name {
        #[serde(rename = "AES_CM_128_HMAC_SHA1_80")]
        Cm80,
        #[serde(rename = "AES_CM_128_HMAC_SHA1_32")]
        Cm32,
        #[serde(rename = "AEAD_AES_128_GCM")]
        Gcm128,
        #[serde(rename = "AEAD_AES_256_GCM")]
        Gcm256,
    }

    pub fn serialize<S: Serializer>(profile: &SrtpProfile, serializer: S) -> Result<S::Ok, S::Error> {
        match profile {
            SrtpProfile::Aes128CmSha1_80 => Name::Cm80,
            SrtpProfile::Aes128CmSha1_32 => Name::Cm32,
            SrtpProfile::AeadAes128Gcm => Name::Gcm128,
            SrtpProfile::AeadAes256Gcm => Name::Gcm256,
        }
        .serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SrtpProfile, D::Error> {
        Ok(match Name::deserialize(deserializer)? {
            Name::Cm80 => SrtpProfile::Aes128CmSha1_80,
            Name::Cm32 => SrtpProfile::Aes128CmSha1_32,
            Name::Gcm128 => SrtpProfile::AeadAes128Gcm,
            Name::Gcm256 => SrtpProfile::AeadAes256Gcm,
        })
    }
}

fn to_hex<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    serializer.serialize_str(&text)
}

fn from_hex<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let digits: Option<Vec<u8>> = text.chars().map(|c| Some(c.to_digit(16)? as u8)).collect();
    let digits = digits.filter(|digits| digits.len() % 2 == 0);
    let digits = digits.ok_or_else(|| serde::de::Error::custom("keys are written in hexadecimal"))?;
    Ok(digits.chunks_exact(2).map(|pair| pair.iter().fold(0, |byte, digit| (byte << 4) | digit)).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_v2_shape_is_enough_and_ours_goes_both_ways() {
        let bare: PlainRemote =
            serde_json::from_value(json!({"ip": "192.0.2.1", "port": 4000})).expect("v2 data");
        let told = PlainRemote::at("192.0.2.1:4000".parse().expect("address"));
        assert_eq!(bare, PlainRemote { rtcp_mux: true, ..told });
        let keys = SdesKeys::new(SrtpProfile::Aes128CmSha1_32, vec![7; 30]).expect("30 bytes");
        let full = PlainRemote {
            rtcp: Some("[2001:db8::1]:4001".parse().expect("address")),
            srtp: Some(keys.clone()),
            dtmf_payload_types: vec![(101, 8000), (102, 48000)],
            sends: false,
            ..PlainRemote::at("[2001:db8::1]:4000".parse().expect("address"))
        };
        let value = json!(full);
        assert_eq!(value["ip"], "2001:db8::1");
        assert_eq!(value["x.srtp"]["profile"], "AES_CM_128_HMAC_SHA1_32");
        assert_eq!(serde_json::from_value::<PlainRemote>(value).expect("ours"), full);
        let options: PlainOptions = serde_json::from_value(json!({})).expect("all optional");
        assert_eq!(options, PlainOptions { latch: false, rtcp_mux: true, ..PlainOptions::default() });
        let ours: PlainOptions = serde_json::from_value(json!(PlainOptions::default())).expect("ours");
        assert_eq!(ours, PlainOptions::default());
        assert_eq!(format!("{keys:?}"), "SdesKeys { profile: Aes128CmSha1_32, .. }");
    }

    #[test]
    fn keys_of_a_wrong_length_are_none() {
        assert_eq!(SdesKeys::new(SrtpProfile::AeadAes256Gcm, vec![0; 30]), None);
        assert!(SdesKeys::new(SrtpProfile::AeadAes128Gcm, vec![0; 28]).and_then(|k| k.material()).is_some());
        let odd = json!({"profile": "AES_CM_128_HMAC_SHA1_80", "inline": "abc"});
        assert!(serde_json::from_value::<SdesKeys>(odd).is_err());
    }
}
