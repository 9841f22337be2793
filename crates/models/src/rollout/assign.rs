//! Who is answered by which: the same user by the same, as long as the shares last.
//!
//! A user's place is a hash of who it is and a salt, even over 2⁶⁴ places. The canary takes places from the bottom, the control from
//! the top, so that who is in the canary at 5 % is in it at 25 %, and another salt makes another division.

use serde::{Deserialize, Serialize};

/// A side of a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Arm {
    /// The challenger.
    Canary,
    /// The champion in a place of its own, as old and as large as the canary.
    Control,
    /// The champion, for all others.
    Champion,
}

/// How traffic is divided, in ten-thousandths. The champion gets what is left.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Split {
    /// The canary's share.
    pub canary: u32,
    /// The control's share.
    pub control: u32,
}

impl Split {
    /// The split of a canary's share: the control gets as much, as far as there is as much.
    pub fn of(canary: u32) -> Split {
        let canary = canary.min(10_000);
        Split { canary, control: canary.min(10_000 - canary) }
    }

    /// Who answers this user.
    pub fn assign(&self, salt: &str, entity: &str) -> Arm {
        let place = u128::from(place(salt, entity));
        let part = |share: u32| (u128::from(share.min(10_000)) << 64) / 10_000;
        if place < part(self.canary) {
            Arm::Canary
        } else if place >= (1 << 64) - part(self.control) {
            Arm::Control
        } else {
            Arm::Champion
        }
    }
}

/// The place of a user: even over all of u64, and the same for ever.
pub fn place(salt: &str, entity: &str) -> u64 {
    let mut hasher = blake3::Hasher::new_derive_key("forebay rollout assignment 1");
    hasher.update(&(salt.len() as u64).to_le_bytes());
    hasher.update(salt.as_bytes());
    hasher.update(entity.as_bytes());
    let mut first = [0; 8];
    hasher.finalize_xof().fill(&mut first);
    u64::from_le_bytes(first)
}
