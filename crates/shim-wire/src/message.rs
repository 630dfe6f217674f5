//! What shim and registrar say to each other. Kinds: odd from the registrar, even from the shim.

use std::net::{IpAddr, SocketAddr};

use model::{Protocol, PublishedPort};

use crate::frame::{DecodeError, FieldReader, FieldWriter, Message};

const HELLO: u8 = 1;
const REGISTER: u8 = 2;
const REGISTERED: u8 = 3;
const RELEASE: u8 = 4;
const REJECTED: u8 = 5;
const RELEASED: u8 = 7;
const STEER: u8 = 9;

/// What a shim says of itself. The process id is not in it: the kernel tells the registrar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Register {
    /// The version that the shim speaks; at most the registrar's own.
    pub version: u16,
    /// The host's side.
    pub published: PublishedPort,
    /// The container's side.
    pub container: SocketAddr,
    /// What is wrong with this port as the shim sees it (unknown flags, a socket that Envoy can't join); at
    /// most 1024 bytes arrive. Empty: nothing.
    pub problem: String,
    /// Whether Envoy may listen beside the shim: false for UDP and SCTP, and where steering failed.
    pub shareable: bool,
    /// The inode of the listening socket, which tells it from Envoy's in the kernel's answers; 0 where there is
    /// none.
    pub socket_inode: u32,
}

/// From the shim to the registrar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromShim {
    /// Claims the port for as long as the connection lasts. Repeated, it announces the same again.
    Register(Register),
    /// dockerd told the shim to stop: Envoy is to let go of the port.
    Release,
}

/// From the registrar to the shim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromRegistrar {
    /// The first message of every connection.
    Hello {
        /// The highest version that the registrar speaks.
        version: u16,
        /// The uid that Envoy's sockets have, and so must the shim's.
        envoy_uid: u32,
    },
    /// The claim stands.
    Registered,
    /// The claim was refused, with the reason for the log. The connection ends.
    Rejected {
        /// In words for the operator.
        reason: String,
    },
    /// Envoy has acknowledged that it no longer listens, or never did.
    Released,
    /// Who is to be given new connections from now on. A new connection to the registrar starts with Envoy.
    Steer {
        /// Envoy, while it listens; otherwise the shim, because Envoy takes none.
        to_envoy: bool,
    },
}

fn protocol_number(protocol: Protocol) -> u8 {
    // The IP protocol numbers of IANA's registry.
    match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
        Protocol::Sctp => 132,
    }
}

fn read_protocol(fields: &mut FieldReader<'_>) -> Result<Protocol, DecodeError> {
    let number = fields.u8("protocol")?;
    [Protocol::Tcp, Protocol::Udp, Protocol::Sctp]
        .into_iter()
        .find(|protocol| protocol_number(*protocol) == number)
        .ok_or_else(|| fields.invalid("protocol"))
}

fn read_socket_address(
    fields: &mut FieldReader<'_>,
    address_field: &'static str,
    port_field: &'static str,
) -> Result<(IpAddr, u16), DecodeError> {
    let address = fields.address(address_field)?;
    match fields.u16(port_field)? {
        0 => Err(fields.invalid(port_field)),
        port => Ok((address, port)),
    }
}

impl Register {
    fn read(fields: &mut FieldReader<'_>) -> Result<Self, DecodeError> {
        let version = fields.u16("version")?;
        let protocol = read_protocol(fields)?;
        let (address, port) = read_socket_address(fields, "host address", "host port")?;
        let (container_address, container_port) = read_socket_address(fields, "container address", "container port")?;
        Ok(Self {
            version,
            published: PublishedPort { address, port, protocol },
            container: SocketAddr::new(container_address, container_port),
            shareable: fields.u8("shareable")? != 0,
            socket_inode: fields.u32("socket inode")?,
            problem: fields.text("problem")?,
        })
    }

    fn encode(&self, out: &mut Vec<u8>) {
        FieldWriter::new(REGISTER, out)
            .u16(self.version)
            .u8(protocol_number(self.published.protocol))
            .address(self.published.address)
            .u16(self.published.port)
            .address(self.container.ip())
            .u16(self.container.port())
            .u8(u8::from(self.shareable))
            .u32(self.socket_inode)
            .text(&self.problem)
            .finish();
    }
}

impl Message for FromShim {
    fn read(fields: &mut FieldReader<'_>) -> Result<Option<Self>, DecodeError> {
        match fields.kind() {
            REGISTER => Register::read(fields).map(|register| Some(Self::Register(register))),
            RELEASE => Ok(Some(Self::Release)),
            _ => Ok(None),
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Register(register) => register.encode(out),
            Self::Release => FieldWriter::new(RELEASE, out).finish(),
        }
    }
}

impl Message for FromRegistrar {
    fn read(fields: &mut FieldReader<'_>) -> Result<Option<Self>, DecodeError> {
        Ok(Some(match fields.kind() {
            HELLO => Self::Hello { version: fields.u16("version")?, envoy_uid: fields.u32("envoy uid")? },
            REGISTERED => Self::Registered,
            REJECTED => Self::Rejected { reason: fields.text("reason")? },
            RELEASED => Self::Released,
            STEER => Self::Steer { to_envoy: fields.u8("to envoy")? != 0 },
            _ => return Ok(None),
        }))
    }

    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Hello { version, envoy_uid } => FieldWriter::new(HELLO, out).u16(*version).u32(*envoy_uid).finish(),
            Self::Registered => FieldWriter::new(REGISTERED, out).finish(),
            Self::Rejected { reason } => FieldWriter::new(REJECTED, out).text(reason).finish(),
            Self::Released => FieldWriter::new(RELEASED, out).finish(),
            Self::Steer { to_envoy } => FieldWriter::new(STEER, out).u8(u8::from(*to_envoy)).finish(),
        }
    }
}
