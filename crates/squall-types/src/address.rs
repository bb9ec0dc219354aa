//! Addresses as text.

use std::fmt;
use std::io::Write as _;
use std::net::IpAddr;

/// The longest is an IPv6 address whose end is written as IPv4.
const LONGEST: usize = 45;

/// An address as its `Display` writes it, without memory of its own: every request has its
/// client's written several times.
#[derive(Clone, Copy)]
pub struct AddressText {
    bytes: [u8; LONGEST],
    length: u8,
}

impl AddressText {
    pub fn new(address: IpAddr) -> Self {
        let mut text = Self { bytes: [0; LONGEST], length: 0 };
        match address {
            IpAddr::V4(address) => {
                for (index, octet) in address.octets().into_iter().enumerate() {
                    if index > 0 {
                        text.push(b'.');
                    }
                    text.push_number(octet);
                }
            }
            IpAddr::V6(address) => {
                let mut left = &mut text.bytes[..];
                write!(left, "{address}").expect("an address is not longer");
                text.length = (LONGEST - left.len()) as u8;
            }
        }
        text
    }

    fn push(&mut self, byte: u8) {
        self.bytes[usize::from(self.length)] = byte;
        self.length += 1;
    }

    fn push_number(&mut self, number: u8) {
        if number > 99 {
            self.push(b'0' + number / 100);
        }
        if number > 9 {
            self.push(b'0' + number / 10 % 10);
        }
        self.push(b'0' + number % 10);
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }

    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).expect("an address is ASCII")
    }
}

impl fmt::Debug for AddressText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    fn check(address: IpAddr) {
        assert_eq!(AddressText::new(address).as_str(), address.to_string());
    }

    #[test]
    fn addresses_are_written_as_they_are_displayed() {
        (0..=255).for_each(|byte| check(Ipv4Addr::new(byte, 255 - byte, byte, 0).into()));
        let longest = "ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255";
        for text in ["::", "::1", "2001:db8::7", "::ffff:192.0.2.1", longest] {
            check(text.parse::<Ipv6Addr>().unwrap().into());
        }
    }
}
