//! Writes small databases in `MaxMind`'s format (version 2.0), as far as cases need them.

use std::net::IpAddr;

/// A value of a record.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Text(&'static str),
    Short(u16),
    Number(u32),
    Long(u64),
    List(Vec<Value>),
    Map(Vec<(&'static str, Value)>),
}

/// A country, and a subdivision of it.
pub(crate) fn city(country: &'static str, subdivision: &'static str) -> Value {
    let code = |code| Value::Map(vec![("iso_code", Value::Text(code))]);
    Value::Map(vec![
        ("country", code(country)),
        ("subdivisions", Value::List(vec![code(subdivision)])),
    ])
}

/// An autonomous system.
pub(crate) fn asn(number: u32, organization: &'static str) -> Value {
    Value::Map(vec![
        ("autonomous_system_number", Value::Number(number)),
        ("autonomous_system_organization", Value::Text(organization)),
    ])
}

/// A database of these networks; none lies within another.
pub(crate) fn database(made: u64, networks: &[(&str, Value)]) -> Vec<u8> {
    let mut tree = vec![[Branch::Nothing; 2]];
    let mut data = Vec::new();
    for (network, value) in networks {
        let (bits, length) = network_bits(network);
        let bit = |at: u32| usize::from(bits >> (127 - at) & 1 == 1);
        let mut node = 0;
        for at in 0..length - 1 {
            node = match tree[node][bit(at)] {
                Branch::Node(next) => next,
                Branch::Nothing => {
                    tree.push([Branch::Nothing; 2]);
                    let next = tree.len() - 1;
                    tree[node][bit(at)] = Branch::Node(next);
                    next
                }
                Branch::Data(_) => panic!("{network} lies within another"),
            };
        }
        tree[node][bit(length - 1)] = Branch::Data(data.len());
        write(value, &mut data);
    }
    let mut file = Vec::new();
    let nodes = tree.len();
    for branch in tree.iter().flatten() {
        let record = match branch {
            Branch::Nothing => nodes,
            Branch::Node(node) => *node,
            Branch::Data(offset) => nodes + 16 + offset,
        };
        file.extend(&u32::try_from(record).unwrap().to_be_bytes()[1..]);
    }
    file.extend([0; 16]);
    file.extend(data);
    file.extend(b"\xab\xcd\xefMaxMind.com");
    write(&metadata(nodes, made), &mut file);
    file
}

fn metadata(nodes: usize, made: u64) -> Value {
    Value::Map(vec![
        ("binary_format_major_version", Value::Short(2)),
        ("binary_format_minor_version", Value::Short(0)),
        ("build_epoch", Value::Long(made)),
        ("database_type", Value::Text("Test")),
        (
            "description",
            Value::Map(vec![("en", Value::Text("a test"))]),
        ),
        ("ip_version", Value::Short(6)),
        ("languages", Value::List(vec![Value::Text("en")])),
        ("node_count", Value::Number(u32::try_from(nodes).unwrap())),
        ("record_size", Value::Short(24)),
    ])
}

#[derive(Clone, Copy)]
enum Branch {
    Nothing,
    Node(usize),
    Data(usize),
}

/// The bits of a network, an IPv4 one in `::/96`, and how many count.
fn network_bits(network: &str) -> (u128, u32) {
    let (address, length) = network.split_once('/').unwrap();
    let length: u32 = length.parse().unwrap();
    match address.parse().unwrap() {
        IpAddr::V4(address) => (u128::from(u32::from(address)), 96 + length),
        IpAddr::V6(address) => (u128::from(address), length),
    }
}

fn write(value: &Value, to: &mut Vec<u8>) {
    let mut head = |kind: u8, size: usize| {
        let kind_bits = if kind < 8 { kind << 5 } else { 0 };
        let size = u8::try_from(size).unwrap();
        to.push(kind_bits | size.min(29));
        if kind >= 8 {
            to.push(kind - 7);
        }
        if size >= 29 {
            to.push(size - 29);
        }
    };
    match value {
        Value::Text(text) => {
            head(2, text.len());
            to.extend(text.as_bytes());
        }
        Value::Short(number) => {
            head(5, 2);
            to.extend(number.to_be_bytes());
        }
        Value::Number(number) => {
            head(6, 4);
            to.extend(number.to_be_bytes());
        }
        Value::Long(number) => {
            head(9, 8);
            to.extend(number.to_be_bytes());
        }
        Value::List(values) => {
            head(11, values.len());
            for value in values {
                write(value, to);
            }
        }
        Value::Map(pairs) => {
            head(7, pairs.len());
            for (key, value) in pairs {
                write(&Value::Text(key), to);
                write(value, to);
            }
        }
    }
}
