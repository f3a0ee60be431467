//! What tells a machine from all others that start from the same template.

use ssh_key::private::Ed25519Keypair;
use ssh_key::{LineEnding, PrivateKey};
use std::fs::File;
use std::io::Read as _;
use testbed_agent::agent::Identity;
use testbed_agent::{Doing as _, Fault, FaultKind};

/// A secret that nobody has had.
pub(super) fn random() -> Result<[u8; 32], Fault> {
    let mut bytes = [0; 32];
    let read = File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
    read.doing("get random numbers")?;
    Ok(bytes)
}

/// An identity that nobody has had.
pub(super) fn fresh() -> Result<Identity, Fault> {
    let failed = |error| Fault::new(FaultKind::State, format!("make a host key: {error}"));
    let key = PrivateKey::from(Ed25519Keypair::from_seed(&random()?));
    let private = key.to_openssh(LineEnding::LF).map_err(failed)?.to_string();
    let public = key.public_key().to_openssh().map_err(failed)? + "\n";
    let machine_id = random()?[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Identity { machine_id, host_key: (private, public) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_are_alike_and_both_halves_belong_together() {
        let (one, other) = (fresh().unwrap(), fresh().unwrap());
        assert!(one.machine_id != other.machine_id && one.host_key != other.host_key);
        assert_eq!(one.machine_id.len(), 32);
        let key = PrivateKey::from_openssh(&one.host_key.0).unwrap();
        assert_eq!(key.public_key().to_openssh().unwrap(), one.host_key.1.trim_end());
    }
}
