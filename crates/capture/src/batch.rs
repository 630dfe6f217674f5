//! A transaction in the kernel's own bytes: commands that take effect together or not at all.
//!
//! This is the one place that writes netlink messages. What the commands mean is in [`crate::layout`]. Attributes
//! are encoded by `netlink-bindings`, which is generated from the kernel's own description of nf_tables.

use netlink_bindings::nftables::{
    Nfgenmsg, OpBatchBeginDo, OpBatchEndDo, OpDelsetelemDo, OpDeltableDo, OpNewchainDo, OpNewruleDo, OpNewsetDo,
    OpNewsetelemDo, OpNewtableDo, PushChainAttrs, PushRuleAttrs, PushSetAttrs, PushSetelemListAttrs, PushTableAttrs,
};
use nix::libc;

/// `struct nlmsghdr`, in bytes.
pub(crate) const HEADER_LENGTH: usize = 16;
const SUBSYSTEM: u16 = (libc::NFNL_SUBSYS_NFTABLES as u16) << 8;
const CREATE: u16 = libc::NLM_F_CREATE as u16;
/// A new rule goes behind those that are there.
const APPEND: u16 = libc::NLM_F_CREATE as u16 | libc::NLM_F_APPEND as u16;

/// The type of one of nf_tables' messages.
pub(crate) const fn message_type(message: libc::c_int) -> u16 {
    SUBSYSTEM | message as u16
}

/// Begins a message; [`finish_message`] must follow.
pub(crate) fn begin_message(bytes: &mut Vec<u8>, message_type: u16, flags: u16, sequence: u32) -> usize {
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    let start = bytes.len();
    bytes.extend(0_u32.to_ne_bytes());
    bytes.extend(message_type.to_ne_bytes());
    bytes.extend((flags | libc::NLM_F_REQUEST as u16).to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend([0; 4]); // our port id: the kernel knows it
    start
}

/// Writes the length of the message that began at `start`.
pub(crate) fn finish_message(bytes: &mut [u8], start: usize) {
    let length = u32::try_from(bytes.len() - start).expect("a message is far shorter than 4 GiB");
    bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
}

/// `struct nfgenmsg` for an address family.
pub(crate) fn family_header(family: libc::c_int) -> Nfgenmsg {
    Nfgenmsg { nfgen_family: family as u8, ..Nfgenmsg::default() }
}

/// Commands for the `inet` family that the kernel carries out together.
#[derive(Debug)]
pub(crate) struct Batch {
    bytes: Vec<u8>,
    /// What each command does, in words; the index is its sequence number, less one.
    commands: Vec<String>,
    last_start: usize,
}

impl Batch {
    pub(crate) fn new() -> Self {
        let mut bytes = Vec::new();
        let start = begin_message(&mut bytes, libc::NFNL_MSG_BATCH_BEGIN as u16, 0, 0);
        OpBatchBeginDo::encode_request(&mut bytes, &batch_header());
        finish_message(&mut bytes, start);
        Self { bytes, commands: Vec::new(), last_start: 0 }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }

    /// What the command of this sequence number does, in words.
    pub(crate) fn command(&self, sequence: u32) -> &str {
        let index = usize::try_from(sequence).ok().and_then(|sequence| sequence.checked_sub(1));
        index.and_then(|index| self.commands.get(index)).map_or("the transaction", String::as_str)
    }

    /// Ends the transaction; yields it as the kernel reads it. Only the last command is acknowledged; a failure of
    /// any is always reported.
    pub(crate) fn finish(&mut self) -> &[u8] {
        if !self.commands.is_empty() {
            let flags = &mut self.bytes[self.last_start + 6..self.last_start + 8];
            let with_ack = u16::from_ne_bytes([flags[0], flags[1]]) | libc::NLM_F_ACK as u16;
            flags.copy_from_slice(&with_ack.to_ne_bytes());
        }
        let sequence = self.last_sequence() + 1;
        let start = begin_message(&mut self.bytes, libc::NFNL_MSG_BATCH_END as u16, 0, sequence);
        OpBatchEndDo::encode_request(&mut self.bytes, &batch_header());
        finish_message(&mut self.bytes, start);
        &self.bytes
    }

    pub(crate) fn new_table(&mut self, what: &str, fill: impl FnOnce(PushTableAttrs<&mut Vec<u8>>)) {
        self.push(what, libc::NFT_MSG_NEWTABLE, CREATE, |bytes, header| {
            fill(OpNewtableDo::encode_request(bytes, header));
        });
    }

    pub(crate) fn delete_table(&mut self, what: &str, fill: impl FnOnce(PushTableAttrs<&mut Vec<u8>>)) {
        self.push(what, libc::NFT_MSG_DELTABLE, 0, |bytes, header| fill(OpDeltableDo::encode_request(bytes, header)));
    }

    pub(crate) fn new_chain(&mut self, what: &str, fill: impl FnOnce(PushChainAttrs<&mut Vec<u8>>)) {
        self.push(what, libc::NFT_MSG_NEWCHAIN, CREATE, |bytes, header| {
            fill(OpNewchainDo::encode_request(bytes, header));
        });
    }

    pub(crate) fn new_set(&mut self, what: &str, fill: impl FnOnce(PushSetAttrs<&mut Vec<u8>>)) {
        self.push(what, libc::NFT_MSG_NEWSET, CREATE, |bytes, header| fill(OpNewsetDo::encode_request(bytes, header)));
    }

    pub(crate) fn new_rule(&mut self, what: &str, fill: impl FnOnce(PushRuleAttrs<&mut Vec<u8>>)) {
        self.push(what, libc::NFT_MSG_NEWRULE, APPEND, |bytes, header| {
            fill(OpNewruleDo::encode_request(bytes, header));
        });
    }

    pub(crate) fn new_elements(&mut self, what: &str, fill: impl FnOnce(PushSetelemListAttrs<&mut Vec<u8>>)) {
        self.push(what, libc::NFT_MSG_NEWSETELEM, CREATE, |bytes, header| {
            fill(OpNewsetelemDo::encode_request(bytes, header));
        });
    }

    pub(crate) fn delete_elements(&mut self, what: &str, fill: impl FnOnce(PushSetelemListAttrs<&mut Vec<u8>>)) {
        self.push(what, libc::NFT_MSG_DELSETELEM, 0, |bytes, header| {
            fill(OpDelsetelemDo::encode_request(bytes, header));
        });
    }

    fn push(&mut self, what: &str, message: libc::c_int, flags: u16, fill: impl FnOnce(&mut Vec<u8>, &Nfgenmsg)) {
        self.commands.push(what.to_owned());
        let sequence = self.last_sequence();
        self.last_start = begin_message(&mut self.bytes, message_type(message), flags, sequence);
        fill(&mut self.bytes, &family_header(libc::NFPROTO_INET));
        finish_message(&mut self.bytes, self.last_start);
    }

    /// The sequence number of the last command.
    pub(crate) fn last_sequence(&self) -> u32 {
        u32::try_from(self.commands.len()).expect("a transaction has far fewer commands")
    }
}

/// Names the subsystem that the transaction is for.
fn batch_header() -> Nfgenmsg {
    Nfgenmsg { _res_id_be: (libc::NFNL_SUBSYS_NFTABLES as u16).to_be(), ..Nfgenmsg::default() }
}
