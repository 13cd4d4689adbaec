//! Which names over the network are one line: a denied one must not be reached by another name.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};

use esp_link::port::PortUrl;
use esp_link::port::url::Endpoint;
use esp_virtual::manager::Status;

/// The addresses behind a port's host name, each in one form; none for a port of another kind or an unknown name.
pub fn addresses(url: &PortUrl) -> BTreeSet<SocketAddr> {
    let (PortUrl::Socket(endpoint) | PortUrl::Rfc2217(endpoint)) = url else { return BTreeSet::new() };
    let found = (endpoint.host.as_str(), endpoint.port).to_socket_addrs();
    found.into_iter().flatten().map(|found| SocketAddr::new(one_form(found.ip()), found.port())).collect()
}

/// IPv4 where it can be, and one address for this computer: all of them lead to it.
fn one_form(address: IpAddr) -> IpAddr {
    let plain = address.to_canonical();
    if plain.is_loopback() || plain.is_unspecified() { Ipv4Addr::LOCALHOST.into() } else { plain }
}

/// Other names of the same line: by address, by the other protocol, and as a virtual device of this user.
pub fn same_line(url: &PortUrl, running: &[Status]) -> Vec<String> {
    let mut names = Vec::new();
    let both = |host: String, port: u16| {
        let endpoint = Endpoint { host, port };
        [PortUrl::Socket(endpoint.clone()).to_string(), PortUrl::Rfc2217(endpoint).to_string()]
    };
    if let PortUrl::Socket(endpoint) | PortUrl::Rfc2217(endpoint) = url {
        names.extend(both(endpoint.host.clone(), endpoint.port));
    }
    for address in addresses(url) {
        names.extend(both(address.ip().to_string(), address.port()));
        if address.ip().is_loopback() {
            names.extend(both("localhost".into(), address.port()));
            let lines = running.iter().filter(|status| lines_of(status).contains(&address.port()));
            names.extend(lines.map(|status| PortUrl::Qemu(status.config.id.clone()).to_string()));
        }
    }
    if let PortUrl::Qemu(id) = url {
        for port in running.iter().filter(|status| status.config.id == *id).flat_map(lines_of) {
            names.extend(both("127.0.0.1".into(), port).into_iter().chain(both("localhost".into(), port)));
        }
    }
    names
}

/// TCP ports of this computer that lead to the device's serial line.
fn lines_of(status: &Status) -> Vec<u16> {
    status.record.iter().flat_map(|record| [record.rfc2217_port, record.socket_port]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_an_address_is_one_address() {
        let of = |text: &str| addresses(&text.parse().unwrap());
        let here = of("socket://127.0.0.1:4000");
        assert_eq!(here.len(), 1);
        for text in [
            "rfc2217://localhost:4000",
            "socket://127.1:4000",
            "socket://[::ffff:127.0.0.1]:4000",
            "socket://0.0.0.0:4000",
            "socket://2130706433:4000",
        ] {
            assert!(!of(text).is_disjoint(&here), "{text}");
        }
        assert!(of("socket://127.0.0.1:4001").is_disjoint(&here) && of("/dev/ttyUSB0").is_empty());
    }

    #[test]
    fn a_line_has_the_names_of_both_protocols() {
        let names = same_line(&"socket://127.1:4000".parse().unwrap(), &[]);
        assert!(
            names.contains(&"rfc2217://127.0.0.1:4000".to_string())
                && names.contains(&"socket://localhost:4000".to_string()),
            "{names:?}"
        );
    }
}
