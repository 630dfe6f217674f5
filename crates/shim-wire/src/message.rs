//! What shim and registrar say to each other. Kinds: odd from the registrar, even from the shim.

use std::net::{IpAddr, SocketAddr};

use model::{Protocol, PublishedPort};

use crate::frame::{DecodeError, FieldReader, FieldWriter, Message};

const HELLO: u8 = 1;
const REGISTER: u8 = 2;
const REGISTERED: u8 = 3;
const RELEASE: u8 = 4;
const REJECTED: u8 = 5;
const SEEN: u8 = 6;
const RELEASED: u8 = 7;
const STEER: u8 = 9;
const OBSERVE: u8 = 11;
const BYPASS: u8 = 13;
const RELEASING: u8 = 15;

/// The most clients in one [`FromRegistrar::Bypass`]. In IPv6 they take 1,088 bytes, about half of a frame.
pub const BYPASS_MAX: usize = 64;

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
    /// Whether this shim understands [`FromRegistrar::Observe`] and [`FromRegistrar::Bypass`]. Shims of the first
    /// release don't send this field, and it reads as false.
    pub observes: bool,
}

/// From the shim to the registrar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromShim {
    /// Claims the port for as long as the connection lasts. Repeated, it announces the same again.
    Register(Register),
    /// dockerd told the shim to stop: Envoy is to let go of the port.
    Release,
    /// What the shim saw in the bytes that it forwarded, sent only while [`FromRegistrar::Observe`] is on.
    Seen {
        /// The code of a finding. The crate `evidence` says what each code means; the registrar ignores codes that it
        /// doesn't know.
        finding: u8,
    },
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
    /// The release was heard: `Released` follows as soon as Envoy has let go, and within
    /// [`RELEASE_LIMIT`](crate::RELEASE_LIMIT) in any case. A registrar of release 0.1.0 does not say it.
    Releasing,
    /// Envoy has acknowledged that it no longer listens, or never did.
    Released,
    /// Who is to be given new connections from now on. A new connection to the registrar starts with Envoy.
    Steer {
        /// Envoy, while it listens; otherwise the shim, because Envoy takes none.
        to_envoy: bool,
    },
    /// Whether the shim is to look at the first bytes of the connections that it forwards. Off on a new connection
    /// to the registrar.
    Observe {
        /// On or off.
        observes: bool,
    },
    /// The clients whose new connections the shim takes itself, while all others go where [`Self::Steer`] says.
    /// Replaces the former list. Empty on a new connection to the registrar.
    Bypass {
        /// At most [`BYPASS_MAX`] addresses; further ones are not sent.
        clients: Vec<IpAddr>,
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

fn read_clients(fields: &mut FieldReader<'_>) -> Result<Vec<IpAddr>, DecodeError> {
    let count = usize::from(fields.u8("number of clients")?);
    if count > BYPASS_MAX {
        return Err(fields.invalid("number of clients"));
    }
    (0..count).map(|_| fields.address("client")).collect()
}

fn write_clients(clients: &[IpAddr], out: FieldWriter<'_>) {
    let clients = &clients[..clients.len().min(BYPASS_MAX)];
    let count = u8::try_from(clients.len()).expect("BYPASS_MAX fits a byte");
    clients.iter().fold(out.u8(count), |out, client| out.address(*client)).finish();
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
            observes: fields.u8_or(0, "observes")? != 0,
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
            .u8(u8::from(self.observes))
            .finish();
    }
}

impl Message for FromShim {
    fn read(fields: &mut FieldReader<'_>) -> Result<Option<Self>, DecodeError> {
        match fields.kind() {
            REGISTER => Register::read(fields).map(|register| Some(Self::Register(register))),
            RELEASE => Ok(Some(Self::Release)),
            SEEN => Ok(Some(Self::Seen { finding: fields.u8("finding")? })),
            _ => Ok(None),
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Register(register) => register.encode(out),
            Self::Release => FieldWriter::new(RELEASE, out).finish(),
            Self::Seen { finding } => FieldWriter::new(SEEN, out).u8(*finding).finish(),
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
            RELEASING => Self::Releasing,
            STEER => Self::Steer { to_envoy: fields.u8("to envoy")? != 0 },
            OBSERVE => Self::Observe { observes: fields.u8("observes")? != 0 },
            BYPASS => Self::Bypass { clients: read_clients(fields)? },
            _ => return Ok(None),
        }))
    }

    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Hello { version, envoy_uid } => FieldWriter::new(HELLO, out).u16(*version).u32(*envoy_uid).finish(),
            Self::Registered => FieldWriter::new(REGISTERED, out).finish(),
            Self::Rejected { reason } => FieldWriter::new(REJECTED, out).text(reason).finish(),
            Self::Released => FieldWriter::new(RELEASED, out).finish(),
            Self::Releasing => FieldWriter::new(RELEASING, out).finish(),
            Self::Steer { to_envoy } => FieldWriter::new(STEER, out).u8(u8::from(*to_envoy)).finish(),
            Self::Observe { observes } => FieldWriter::new(OBSERVE, out).u8(u8::from(*observes)).finish(),
            Self::Bypass { clients } => write_clients(clients, FieldWriter::new(BYPASS, out)),
        }
    }
}
