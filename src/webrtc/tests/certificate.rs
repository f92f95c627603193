//! The certificate survives being written and read, and is refused when it is not ours.

use crate::webrtc::Certificate;

#[test]
fn a_certificate_survives_its_file() {
    let made = Certificate::generate().expect("generate");
    let read = Certificate::from_pem(&made.to_pem()).expect("read back");
    assert_eq!(read.fingerprints(), made.fingerprints());
    assert_eq!(read.to_pem(), made.to_pem());
    let algorithms: Vec<_> = made.fingerprints().into_iter().map(|print| print.algorithm).collect();
    assert_eq!(algorithms, ["sha-1", "sha-224", "sha-256", "sha-384", "sha-512"]);
    assert_eq!(made.fingerprints()[2].value.len(), 32 * 3 - 1);
}

#[test]
fn two_certificates_differ() {
    let (one, two) = (Certificate::generate().expect("one"), Certificate::generate().expect("two"));
    assert_ne!(one.fingerprints(), two.fingerprints());
}

#[test]
fn a_broken_file_is_refused_in_words() {
    let made = Certificate::generate().expect("generate").to_pem();
    let half: String = made.lines().take(5).collect::<Vec<_>>().join("\n");
    for text in ["", "hello", &half] {
        let Err(error) = Certificate::from_pem(text) else { panic!("{text:?} was taken") };
        assert!(error.to_string().starts_with("the DTLS certificate cannot be used"), "{error}");
    }
}
