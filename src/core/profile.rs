//! Profiles: the names the v2 protocol has for the layers of a track, and their order.
//!
//! A track of one stream has the one profile `default`; the streams of a simulcast track are `low`, `medium`
//! and `high`. `none` is what a receiver effectively gets while nothing flows.

use serde::{Deserialize, Serialize};

/// See the module. The order is that of quality.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// Nothing flows.
    None,
    /// The one stream there is; as a preference: whatever is best.
    #[default]
    Default,
    /// The lowest layer.
    Low,
    /// The middle layer.
    Medium,
    /// The highest layer.
    High,
}

impl Profile {
    /// The profile called `name`.
    pub fn from_name(name: &str) -> Option<Profile> {
        match name {
            "none" => Some(Profile::None),
            "default" => Some(Profile::Default),
            "low" => Some(Profile::Low),
            "medium" => Some(Profile::Medium),
            "high" => Some(Profile::High),
            _ => None,
        }
    }

    /// Its name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Profile::None => "none",
            Profile::Default => "default",
            Profile::Low => "low",
            Profile::Medium => "medium",
            Profile::High => "high",
        }
    }

    /// The profile of layer `spatial` (0 the lowest) of a track with `layers` of them, where its publisher
    /// gave none. All above the second are `high`.
    pub const fn of_layer(spatial: u8, layers: u8) -> Profile {
        if layers <= 1 {
            return Profile::Default;
        }
        match spatial {
            0 => Profile::Low,
            1 => Profile::Medium,
            _ => Profile::High,
        }
    }
}

impl std::fmt::Display for Profile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_order() {
        let all = [Profile::None, Profile::Default, Profile::Low, Profile::Medium, Profile::High];
        assert!(all.is_sorted());
        for profile in all {
            assert_eq!(Profile::from_name(profile.as_str()), Some(profile));
            assert_eq!(serde_json::json!(profile), profile.as_str());
        }
        assert_eq!(Profile::from_name("High"), None);
    }

    #[test]
    fn layers_without_a_name_get_one() {
        assert_eq!(Profile::of_layer(0, 1), Profile::Default);
        let three: Vec<_> = (0..3).map(|layer| Profile::of_layer(layer, 3)).collect();
        assert_eq!(three, [Profile::Low, Profile::Medium, Profile::High]);
    }
}
