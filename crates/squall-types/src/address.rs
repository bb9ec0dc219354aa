//! Addresses as text.

use std::fmt;
use std::io::Write as _;
use std::net::IpAddr;

/// The longest is an IPv6 address whose end is written as IPv4.
const LONGEST: usize = 45;

/// The digits of each byte, and how many there are.
const OCTETS: [([u8; 3], u8); 256] = {
    let mut all = [([0; 3], 0); 256];
    let mut number = 0;
    while number < 256 {
        let hundreds = b'0' + (number / 100) as u8;
        let tens = b'0' + (number / 10 % 10) as u8;
        let ones = b'0' + (number % 10) as u8;
        all[number] = match number {
            0..10 => ([ones, 0, 0], 1),
            10..100 => ([tens, ones, 0], 2),
            _ => ([hundreds, tens, ones], 3),
        };
        number += 1;
    }
    all
};

/// An address as its `Display` writes it, without memory of its own: every request has its
/// client's written several times.
#[derive(Clone, Copy)]
pub struct AddressText {
    bytes: [u8; LONGEST],
    length: u8,
}

impl AddressText {
    pub fn new(address: IpAddr) -> Self {
        let mut bytes = [0; LONGEST];
        let length = match address {
            IpAddr::V4(address) => {
                let mut length = 0;
                for octet in address.octets() {
                    let (digits, count) = OCTETS[usize::from(octet)];
                    bytes[length..length + 3].copy_from_slice(&digits);
                    length += usize::from(count);
                    bytes[length] = b'.';
                    length += 1;
                }
                length - 1
            }
            IpAddr::V6(address) => {
                let mut left = &mut bytes[..];
                write!(left, "{address}").expect("an address is not longer");
                LONGEST - left.len()
            }
        };
        Self { bytes, length: length as u8 }
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
