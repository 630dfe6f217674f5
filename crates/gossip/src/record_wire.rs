//! How a host's record is written down.
//!
//! There is one way to write a record, so that equal records have equal bytes, and equal fingerprints. Adding
//! a field to it raises [`crate::VERSION`].

use std::net::IpAddr;

use model::host_record::{ADDRESSES_MAX, INSTANCES_MAX};
use model::instance::{Origin, PORTS_MAX, Text};
use model::{
    ContainerId, EnvironmentName, HostRecord, Instance, InstanceKey, InstancePort, Protocol, ProxyMode, Service,
    ServiceName, Status,
};

use crate::cluster::fingerprint;
use crate::wire::{DecodeError, Reader, Writer, at_place, place_in};

const CONTAINER: u8 = 0;
const STATIC: u8 = 1;
const PROTOCOLS: [Protocol; 3] = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
const MODES: [ProxyMode; 4] = [ProxyMode::Http, ProxyMode::Tcp, ProxyMode::Auto, ProxyMode::None];

/// The longest record, in bytes, that a host announces. Instances beyond it are left out.
pub const RECORD_MAX_LENGTH: usize = 256 * 1024;

pub(crate) fn write_record(record: &HostRecord, writer: &mut Writer) {
    writer.stamp(record.stamp);
    write_heading(record, writer);
    writer.count(record.instances().len());
    record.instances().values().for_each(|instance| write_instance(instance, writer));
}

pub(crate) fn read_record(reader: &mut Reader<'_>) -> Result<HostRecord, DecodeError> {
    let stamp = reader.stamp()?;
    let heading = read_heading(reader)?;
    let mut record = heading.onto(HostRecord::empty(stamp));
    for _ in 0..reader.count(INSTANCES_MAX, "instances")? {
        let instance = read_instance(reader)?;
        record.put(instance).map_err(|_| DecodeError::Invalid("instances"))?;
    }
    Ok(record)
}

/// Stands for the content of a record.
pub(crate) fn record_fingerprint(record: &HostRecord) -> u64 {
    let mut writer = Writer::default();
    write_record(record, &mut writer);
    fingerprint(&[&writer.0])
}

/// What a record says of its host as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Heading {
    pub(crate) left: bool,
    pub(crate) addresses: Vec<IpAddr>,
}

impl Heading {
    pub(crate) fn of(record: &HostRecord) -> Self {
        Self { left: record.left, addresses: record.addresses().iter().copied().collect() }
    }

    pub(crate) fn onto(self, mut record: HostRecord) -> HostRecord {
        record.left = self.left;
        // The reader took no more than fit.
        record.set_addresses(self.addresses);
        record
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        writer.bool(self.left).count(self.addresses.len());
        for address in &self.addresses {
            writer.address(*address);
        }
    }
}

fn write_heading(record: &HostRecord, writer: &mut Writer) {
    Heading::of(record).write(writer);
}

pub(crate) fn read_heading(reader: &mut Reader<'_>) -> Result<Heading, DecodeError> {
    let left = reader.bool("left")?;
    let count = reader.count(ADDRESSES_MAX, "addresses")?;
    let addresses = (0..count).map(|_| reader.address("address")).collect::<Result<_, _>>()?;
    Ok(Heading { left, addresses })
}

pub(crate) fn write_instance(instance: &Instance, writer: &mut Writer) {
    write_origin(&instance.origin, writer);
    writer
        .text(&instance.service.name.marked())
        .text(&instance.service.environment.marked())
        .u8(place_in(&Status::ALL, instance.status))
        .u64(instance.since_ms)
        .text(instance.image.as_str())
        .text(instance.version.as_str())
        .count(instance.ports.len());
    instance.ports.iter().for_each(|port| write_port(port, writer));
}

pub(crate) fn read_instance(reader: &mut Reader<'_>) -> Result<Instance, DecodeError> {
    Ok(Instance {
        origin: read_origin(reader)?,
        service: Service { name: read_service_name(reader)?, environment: read_environment(reader)? },
        status: at_place(&Status::ALL, reader.u8("status")?, "status")?,
        since_ms: reader.u64("since")?,
        image: read_text(reader, "image")?,
        version: read_text(reader, "version")?,
        ports: read_ports(reader)?,
    })
}

fn write_origin(origin: &Origin, writer: &mut Writer) {
    match origin {
        Origin::Static(key) => writer.u8(STATIC).bytes(key.as_bytes()),
        Origin::Container(id) => writer.u8(CONTAINER).bytes(&bytes_of_hex(id.as_str())),
    };
}

fn read_origin(reader: &mut Reader<'_>) -> Result<Origin, DecodeError> {
    match reader.u8("origin")? {
        STATIC => Ok(Origin::Static(InstanceKey::from_bytes(reader.array("instance key")?))),
        CONTAINER => {
            let id: [u8; 32] = reader.array("container id")?;
            let text: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
            let id: ContainerId = text.parse().map_err(|_| DecodeError::Invalid("container id"))?;
            Ok(Origin::Container(id))
        }
        _ => Err(DecodeError::Invalid("origin")),
    }
}

/// The bytes of hexadecimal digits; what is none counts as 0.
fn bytes_of_hex(text: &str) -> Vec<u8> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok()).unwrap_or(0);
    text.as_bytes().chunks(2).map(|pair| pair.iter().fold(0, |value, byte| value << 4 | digit(byte))).collect()
}

fn write_port(port: &InstancePort, writer: &mut Writer) {
    writer
        // Port 0 can't be had, so it stands for none.
        .u16(port.service_port.unwrap_or(0))
        .address(port.address)
        .u16(port.port)
        .u8(place_in(&PROTOCOLS, port.protocol))
        .u8(place_in(&MODES, port.mode));
}

fn read_ports(reader: &mut Reader<'_>) -> Result<Vec<InstancePort>, DecodeError> {
    (0..reader.count(PORTS_MAX, "ports")?)
        .map(|_| {
            Ok(InstancePort {
                service_port: Some(reader.u16("service port")?).filter(|port| *port != 0),
                address: reader.address("instance address")?,
                port: Some(reader.u16("port")?).filter(|port| *port != 0).ok_or(DecodeError::Invalid("port"))?,
                protocol: at_place(&PROTOCOLS, reader.u8("protocol")?, "protocol")?,
                mode: at_place(&MODES, reader.u8("proxy mode")?, "proxy mode")?,
            })
        })
        .collect()
}

fn read_service_name(reader: &mut Reader<'_>) -> Result<ServiceName, DecodeError> {
    match ServiceName::corrected(reader.text("service name")?) {
        Some((name, None)) => Ok(name),
        _ => Err(DecodeError::Invalid("service name")),
    }
}

fn read_environment(reader: &mut Reader<'_>) -> Result<EnvironmentName, DecodeError> {
    match EnvironmentName::corrected(reader.text("environment")?) {
        (name, None) => Ok(name),
        (_, Some(_)) => Err(DecodeError::Invalid("environment")),
    }
}

fn read_text<const MAX: usize>(reader: &mut Reader<'_>, field: &'static str) -> Result<Text<MAX>, DecodeError> {
    let text = reader.text(field)?;
    if text.len() > MAX { Err(DecodeError::Invalid(field)) } else { Ok(Text::cut(text)) }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use model::Stamp;

    use super::*;

    pub(crate) fn any_instance() -> impl Strategy<Value = Instance> {
        let origin = prop_oneof![
            any::<[u8; 6]>().prop_map(|key| Origin::Static(InstanceKey::from_bytes(key))),
            "[0-9a-f]{64}".prop_map(|id| Origin::Container(id.parse().unwrap())),
        ];
        let port = (any::<u16>(), any::<IpAddr>(), 1_u16.., 0..3_usize, 0..4_usize).prop_map(
            |(service_port, address, port, protocol, mode)| InstancePort {
                service_port: Some(service_port).filter(|port| *port != 0),
                address,
                port,
                protocol: PROTOCOLS[protocol],
                mode: MODES[mode],
            },
        );
        let ports = proptest::collection::vec(port, 0..4);
        (origin, "([a-z.]{1,63}|.{1,70})", "([a-z]{0,9}|.{0,9})", 0..4_usize, any::<u64>(), ".{0,40}", ports).prop_map(
            |(origin, name, environment, status, since_ms, image, ports)| Instance {
                origin,
                service: Service {
                    name: ServiceName::corrected(&name).unwrap().0,
                    environment: EnvironmentName::corrected(&environment).0,
                },
                status: Status::ALL[status],
                since_ms,
                image: Text::cut(&image),
                version: Text::cut(&image),
                ports,
            },
        )
    }

    pub(crate) fn any_record() -> impl Strategy<Value = HostRecord> {
        let instances = proptest::collection::vec(any_instance(), 0..5);
        let addresses = proptest::collection::vec(any::<IpAddr>(), 0..4);
        (any::<u64>(), any::<u64>(), any::<bool>(), addresses, instances).prop_map(
            |(incarnation, version, left, addresses, instances)| {
                let incarnation = model::Incarnation::new(incarnation);
                let mut record = Heading { left, addresses }.onto(HostRecord::empty(Stamp { incarnation, version }));
                instances.into_iter().for_each(|instance| record.put(instance).unwrap());
                record
            },
        )
    }

    fn written(record: &HostRecord) -> Vec<u8> {
        let mut writer = Writer::default();
        write_record(record, &mut writer);
        writer.0
    }

    proptest! {
        #[test]
        fn every_record_survives_the_wire(record in any_record()) {
            let bytes = written(&record);
            let mut reader = Reader::new(&bytes);
            prop_assert_eq!(read_record(&mut reader), Ok(record));
            prop_assert!(reader.rest().is_empty());
        }

        #[test]
        fn a_record_that_is_cut_short_is_refused(record in any_record(), cut in any::<proptest::sample::Index>()) {
            let bytes = written(&record);
            prop_assert!(read_record(&mut Reader::new(&bytes[..cut.index(bytes.len())])).is_err());
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = read_record(&mut Reader::new(&bytes));
            let _ = read_instance(&mut Reader::new(&bytes));
        }
    }
}
