//! Which addresses may be called: those that everybody can call. A caller names where a webhook goes, and must not reach by
//! us what he cannot reach himself. What counts is the address that is connected to, after names were resolved, so that a
//! name that leads elsewhere the second time gains nothing.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper_util::client::legacy::connect::dns::Name;
use tower_service::Service;

/// Whether an address is one of the public network, by IANA's registries of special-purpose addresses.
pub fn is_public(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let special = ip.is_private()
        || ip.is_loopback()
        || ip.is_link_local()
        || ip.is_documentation()
        || ip.is_multicast()
        || a == 0
        || a >= 240
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 192 && b == 88 && c == 99)
        || (a == 198 && (b == 18 || b == 19));
    !special
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let [a, b, c, d, e, f, g, h] = ip.segments();
    let within = |g: u16, h: u16| {
        let ([w, x], [y, z]) = (g.to_be_bytes(), h.to_be_bytes());
        is_public_v4(Ipv4Addr::new(w, x, y, z))
    };
    match (a, b) {
        // Translated to the IPv4 address in its last bits.
        (0x64, 0xff9b) => (c, d, e, f) == (0, 0, 0, 0) && within(g, h),
        // 6to4: to the one behind its prefix.
        (0x2002, _) => within(b, c),
        // Teredo, ORCHID and other protocols' own; documentation.
        (0x2001, 0..0x200 | 0xdb8) => false,
        (0x3fff, _) => false,
        // Global unicast is one eighth of all.
        _ => a & 0xe000 == 0x2000,
    }
}

/// Resolves names to public addresses, or to any when it is told so. A connector asks it for names alone: whoever uses it looks
/// at addresses that are written out ([`is_public`]) himself.
#[derive(Debug, Clone, Copy)]
pub struct Guarded {
    /// Whether addresses of private networks and of this machine may be called too.
    pub allow_private: bool,
}

/// A name that leads to no address that may be called.
#[derive(Debug, thiserror::Error)]
#[error("the address is not a public one")]
pub(crate) struct NotPublic;

impl Service<Name> for Guarded {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let allow_private = self.allow_private;
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let all: Vec<SocketAddr> = found.filter(|a| allow_private || is_public(a.ip())).collect();
            if all.is_empty() { Err(io::Error::other(NotPublic)) } else { Ok(all.into_iter()) }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn addresses_of_private_networks_of_this_machine_and_of_clouds_metadata_are_not_public() {
        for ip in [
            "127.0.0.1",
            "127.8.8.8",
            "10.0.0.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.169.254",
            "0.0.0.0",
            "0.1.2.3",
            "100.64.0.1",
            "100.127.0.1",
            "192.0.0.8",
            "198.18.0.1",
            "198.51.100.7",
            "203.0.113.9",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "fe80::1",
            "fc00::1",
            "fd12:3456::1",
            "ff02::1",
            "fec0::1",
            "2001:db8::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "2002:a00:1::1",
            "2001::1",
            "::127.0.0.1",
            "3fff::1",
            "100::1",
        ] {
            assert!(!is_public(ip.parse().unwrap()), "{ip}");
        }
        for ip in [
            "1.1.1.1",
            "93.184.216.34",
            "172.32.0.1",
            "100.128.0.1",
            "2606:4700::1111",
            "2001:4860:4860::8888",
            "64:ff9b::101:101",
            "2002:101:101::1",
        ] {
            assert!(is_public(ip.parse().unwrap()), "{ip}");
        }
    }

    proptest! {
        #[test]
        fn an_address_is_as_public_however_it_is_written(bits: u32) {
            let v4 = Ipv4Addr::from(bits);
            let mapped = v4.to_ipv6_mapped();
            prop_assert_eq!(is_public(v4.into()), is_public(mapped.into()));
            let [g, h] = [(bits >> 16) as u16, bits as u16];
            let translated = Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, g, h);
            prop_assert_eq!(is_public(v4.into()), is_public(translated.into()));
        }
    }
}
