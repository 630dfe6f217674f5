//! Orders to one other host, on a stream of their own: who is asked says who it is, is told what to do, and
//! answers.
//!
//! ```text
//! opener    ── Hello ─────────────────▶
//!           ◀── Hello, Remembered ──────   it is the host that is meant
//!           ── Order ─────────────────▶
//!           ◀────────────────── Answer ──
//! ```
//! Whoever can open a stream holds the cluster's key, and may give every order: members trust each other. Each
//! order ends with one [`Output::OrderEnded`], within [`ORDER_MAX`].

use std::time::{Duration, Instant};

use model::HostName;

use super::Gossip;
use super::joining::Phase;
use super::streams::{Purpose, Session};
use crate::hosts::{Host, HostStatus};
use crate::message::Message;
use crate::order::{Answer, AnswerMessage, ORDER_VERSION, Order, OrderMessage};
use crate::output::{OrderId, Output, StreamId};
use crate::refusal::Refusal;
use crate::timers::Wake;

/// The longest time from an order to its end: a connect, a few packets, and what is to be done takes no time.
pub const ORDER_MAX: Duration = Duration::from_secs(3);

/// The most orders that this host has under way.
const ORDERS_MAX: usize = 8;

/// Why an order was not given, or nothing is known of its end. The host's name is the caller's to say.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    /// The cluster has no host of this name, as far as is known here.
    #[error("no host of this name is known here: see `shimctl hosts`")]
    NoSuchHost,
    /// The host is down, or has left.
    #[error("it is down, as this host sees it: see `shimctl hosts`")]
    Down,
    /// This host leaves the cluster, or has left it.
    #[error("this host is leaving the cluster")]
    Leaving,
    /// Too many orders are under way.
    #[error("{ORDERS_MAX} orders are under way already: try again")]
    TooMany,
    /// No connection to its registrar.
    #[error("its registrar can't be reached: does it run, and does TCP pass to its gossip port?")]
    Unreachable,
    /// Its registrar hung up before it said who it is, or somebody else answered there.
    #[error("its registrar did not let this host in: it is busy, or has other gossip keys; its log may say more")]
    Refused,
    /// Its registrar does not know this order.
    #[error("its registrar is of an older version, which takes no such orders: give them on that host")]
    OlderVersion,
    /// It was asked, and hung up without an answer.
    #[error(
        "its registrar hung up without an answer: it is of a version that takes no orders, or has just ended; `shimctl services` shows what came of it"
    )]
    HungUp,
    /// It was asked, and did not answer in time.
    #[error("no answer within {} s: `shimctl services` shows what came of it", ORDER_MAX.as_secs())]
    NoAnswer,
}

impl Gossip {
    /// Has another host do something. What came of it is told by one [`Output::OrderEnded`].
    ///
    /// # Errors
    /// Nobody can be asked; nothing follows.
    pub fn order(&mut self, now: Instant, host: &HostName, order: Order) -> Result<OrderId, OrderError> {
        if matches!(self.phase, Phase::Leaving { .. } | Phase::Left) {
            return Err(OrderError::Leaving);
        }
        let is_known = self.catalogue.get(host).is_some() && host != self.own_name();
        let known = self.hosts.get(host).ok_or(if is_known { OrderError::Down } else { OrderError::NoSuchHost })?;
        // One that is held is most likely there: what fails is this host's own network.
        if matches!(known.status, HostStatus::Down | HostStatus::Left) && !Host::is_served(known) {
            return Err(OrderError::Down);
        }
        let address = known.identity.address;
        if self.sessions.values().filter(|session| matches!(session.purpose, Purpose::Order(..))).count() >= ORDERS_MAX
        {
            return Err(OrderError::TooMany);
        }
        let purpose = Purpose::Order(host.clone(), order);
        let stream = self.open_stream(now, address, purpose).ok_or(OrderError::TooMany)?;
        self.timers.set(Wake::Stream(stream), now + ORDER_MAX);
        Ok(OrderId(stream))
    }

    /// Says what came of an [`Output::Ordered`]. Nothing happens where nobody waits for it any longer.
    pub fn answer(&mut self, order: OrderId, answer: Answer) {
        self.say(order.0, &Message::Answer(AnswerMessage::Known(answer)));
    }

    /// The other end has said who it is: the host that is meant is told what to do.
    pub(super) fn order_host(&mut self, id: StreamId, host: &HostName, (meant, order): (&HostName, Order)) {
        if host == meant {
            self.say(id, &Message::Order(OrderMessage::Known(order)));
        } else {
            self.end_order(id, Err(OrderError::Refused));
        }
    }

    /// Another host wants something done. Each stream carries one order.
    pub(super) fn handle_order(&mut self, id: StreamId, message: OrderMessage) -> Result<(), Refusal> {
        let Some(session) = self.sessions.get_mut(&id) else { return Ok(()) };
        let Some(peer) = session.peer.as_ref().filter(|_| !session.opener && !session.is_ordered) else {
            return Err(Refusal::Malformed);
        };
        let from = peer.identity.name.as_ref().clone();
        session.is_ordered = true;
        match message {
            OrderMessage::Known(order) => {
                self.outputs.push_back(Output::Ordered { order: OrderId(id), from, what: order });
            }
            OrderMessage::OfVersion(_) => self.say(id, &Message::Answer(AnswerMessage::KnowsVersion(ORDER_VERSION))),
        }
        Ok(())
    }

    /// The other host has answered.
    pub(super) fn handle_answer(&mut self, id: StreamId, answer: AnswerMessage) -> Result<(), Refusal> {
        let Some(session) = self.sessions.get(&id) else { return Ok(()) };
        if !matches!(session.purpose, Purpose::Order(..)) || session.peer.is_none() {
            return Err(Refusal::Malformed);
        }
        let outcome = match answer {
            AnswerMessage::Known(answer) => Ok(answer),
            AnswerMessage::KnowsVersion(_) => Err(OrderError::OlderVersion),
        };
        self.end_order(id, outcome);
        Ok(())
    }

    /// The stream of an order is over before there was an answer.
    pub(super) fn order_broke_off(&mut self, id: StreamId, session: &Session, by_other: bool) {
        let why = match (session.peer.is_some(), session.is_open(), by_other) {
            (true, _, true) => OrderError::HungUp,
            (true, _, false) => OrderError::NoAnswer,
            (false, true, true) => OrderError::Refused,
            (false, true, false) => OrderError::NoAnswer,
            (false, false, _) => OrderError::Unreachable,
        };
        self.outputs.push_back(Output::OrderEnded { order: OrderId(id), outcome: Err(why) });
    }

    fn end_order(&mut self, id: StreamId, outcome: Result<Answer, OrderError>) {
        if self.sessions.remove(&id).is_some() {
            self.timers.clear(&Wake::Stream(id));
            self.outputs.push_back(Output::CloseStream { stream: id });
            self.outputs.push_back(Output::OrderEnded { order: OrderId(id), outcome });
        }
    }
}
