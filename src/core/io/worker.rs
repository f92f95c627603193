//! One worker thread's loop around its engine.
//!
//! A round: sleep until something is due, then control in, mail, lanes, sockets, timeout, actions, flush
//! and send, control out. Everything that waits is taken in before anything is sent, so that what goes to
//! one receiver leaves together. Under load rounds are spaced out; see [`load`](crate::core::io::load).

use std::io;
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::core::id::StreamId;
use crate::core::io::channel::ChannelLog;
use crate::core::io::config::IoConfig;
use crate::core::io::control::ControlSocket;
use crate::core::io::engine::{Action, Engine};
use crate::core::io::epoll::{Epoll, Interest, Ready};
use crate::core::io::eventfd::EventFd;
use crate::core::io::legs::{self, Legs, PortRange};
use crate::core::io::listener::Listener;
use crate::core::io::load::Load;
use crate::core::io::ports::Ports;
use crate::core::io::receive::Receiver;
use crate::core::io::send::{AllSockets, Sender};
use crate::core::io::stats::{IoCounters, IoStats};
use crate::core::io::stream::{self, Streams};
use crate::core::io::udp::UdpSocket;
use crate::core::io::{clock, sys};
use crate::core::lane;
use crate::core::mail::Mail;
use crate::core::rtp::batch::SendBatch;
use crate::core::rtp::path::Path;
use crate::core::worker::FIRST_LEG_SOCKET;

const CONTROL: u64 = 0;
const WAKE: u64 = 1;
const LISTENERS: u64 = 0x100;
const SOCKETS: u64 = 0x200;
const LEGS: u64 = 1 << 16;
/// Datagrams taken from a leg's socket in one call; more than a few wait there only after a pause.
const LEG_MESSAGES: usize = 4;
/// Events of one wait; more wait for the next round.
const EVENTS: usize = 256;

/// What one run of the loop needs beside its engine and ports.
pub(crate) struct WorkerSetup {
    /// Bounds.
    pub config: IoConfig,
    /// The worker's end of the control socket.
    pub control: UnixStream,
    /// In a worker process: the log lines that share the control socket.
    pub log: Option<Arc<ChannelLog>>,
    /// Mail from the main thread.
    pub mail: lane::Receiver<Mail>,
    /// The ports for plain RTP legs, shared by all workers.
    pub leg_ports: Arc<PortRange>,
    /// Wakes the loop.
    pub wake: Arc<EventFd>,
    /// Set to end the loop; a wake must follow.
    pub stop: Arc<AtomicBool>,
    /// Where the counters are published.
    pub stats: Arc<IoStats>,
}

/// Why the loop ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Exit {
    /// The engine or the pool asked for it.
    Shutdown,
    /// The main thread closed the control socket, or it broke.
    ControlClosed,
}

/// Runs a worker until it ends.
pub(crate) fn run<E: Engine>(engine: E, ports: &mut Ports, setup: WorkerSetup) -> io::Result<Exit> {
    sys::sharpen_timers();
    let mut worker = Loop::new(engine, ports, setup)?;
    loop {
        if let Some(exit) = worker.round()? {
            worker.finish();
            return Ok(exit);
        }
    }
}

struct Loop<'a, E> {
    engine: E,
    ports: &'a mut Ports,
    config: IoConfig,
    epoll: Epoll,
    control: ControlSocket,
    control_watched: Interest,
    mail: lane::Receiver<Mail>,
    wake: Arc<EventFd>,
    stop: Arc<AtomicBool>,
    streams: Streams,
    legs: Legs,
    leg_ports: Arc<PortRange>,
    receiver: Receiver,
    sender: Sender,
    batch: SendBatch,
    load: Load,
    began: Instant,
    /// Time spent on requests in this round.
    requests: Duration,
    exit: Option<Exit>,
    counters: IoCounters,
    stats: Arc<IoStats>,
    log: Option<Arc<ChannelLog>>,
}

impl<'a, E: Engine> Loop<'a, E> {
    fn new(engine: E, ports: &'a mut Ports, setup: WorkerSetup) -> io::Result<Self> {
        let WorkerSetup { config, control, log, mail, leg_ports, wake, stop, stats } = setup;
        let epoll = Epoll::new(EVENTS)?;
        let control = ControlSocket::new(control, config.control_write_bytes, log.clone())?;
        epoll.add(&control, CONTROL, Interest::READ)?;
        epoll.add(&*wake, WAKE, Interest::READ)?;
        for (token, socket) in (SOCKETS..).zip(&ports.udp) {
            epoll.add(socket, token, Interest::READ)?;
        }
        for (token, listener) in (LISTENERS..).zip(&mut ports.tcp) {
            listener.register(&epoll, token)?;
        }
        let now = clock::now();
        Ok(Loop {
            engine,
            ports,
            epoll,
            control,
            control_watched: Interest::READ,
            mail,
            wake,
            stop,
            streams: Streams::new(&config),
            legs: Legs::default(),
            leg_ports,
            receiver: Receiver::new(config.receive_batch),
            sender: Sender::new(Duration::from_micros(u64::from(config.send_wait_us))),
            batch: SendBatch::new(config.send_batch_bytes, config.send_batch_runs),
            load: Load::new(&config, now, sys::thread_cpu_time()),
            began: now,
            requests: Duration::ZERO,
            exit: None,
            counters: stats.snapshot(),
            stats,
            log,
            config,
        })
    }

    /// One round; `Some` when it was the last.
    fn round(&mut self) -> io::Result<Option<Exit>> {
        // 0. Sleep until something is due, or the tick says so.
        self.put_off();
        let (events, signalled) = self.sleep()?;
        let now = clock::now();
        self.began = now;
        // 1. Control bytes are read before the mailbox is emptied and handled after, so that a request
        //    finds the mail it speaks of.
        let readable = |ready: Ready| ready.token == CONTROL && ready.read;
        let asked = (0..events).filter_map(|index| self.epoll.ready(index)).any(readable);
        if asked && !self.control.read() {
            self.exit.get_or_insert(Exit::ControlClosed);
        }
        // 2. Mail.
        while let Ok(Some(mail)) = self.mail.pop() {
            self.take_mail(now, mail);
        }
        self.requests = Duration::ZERO;
        if asked {
            let began = clock::now();
            if !self.control.deliver(now, &mut self.engine) {
                self.exit.get_or_insert(Exit::ControlClosed);
            }
            self.requests = clock::now().saturating_duration_since(began);
        }
        // 3. Lanes.
        if signalled {
            self.engine.handle_lanes(now);
        }
        // 4. Sockets.
        for index in 0..events {
            if let Some(ready) = self.epoll.ready(index) {
                self.socket_ready(ready);
            }
        }
        // 5. Timeouts.
        self.timeouts(clock::now());
        // 6. Actions.
        self.actions();
        // 7. Flush and send.
        self.flush();
        // 8. Control out.
        let answering = asked.then(clock::now);
        self.control_out()?;
        self.requests +=
            answering.map_or(Duration::ZERO, |began| clock::now().saturating_duration_since(began));
        // 9. Account.
        self.finish_round();
        Ok(self.exit)
    }

    /// The last round is over: whoever is still there is told, and the dispatcher gets the last answers.
    fn finish(&mut self) {
        self.engine.handle_shutdown(clock::now());
        self.actions();
        self.flush();
        self.control.finish(&mut self.engine);
    }

    /// Under load, sleeps until the next round may begin; what happens meanwhile waits.
    fn put_off(&mut self) {
        let Some(next) = self.load.next_round(self.began) else { return };
        let now = clock::now();
        let pause = next.saturating_duration_since(now);
        if pause.is_zero() {
            return;
        }
        clock::sleep(pause);
        let waited = clock::now().saturating_duration_since(now).as_micros() as u64;
        self.counters.tick_rounds += 1;
        self.counters.tick_wait_us += waited;
        self.counters.tick_wait_max_us = self.counters.tick_wait_max_us.max(waited);
    }

    /// Sleeps until an event, a wake or a timeout; how many events, and whether there was a wake.
    fn sleep(&mut self) -> io::Result<(usize, bool)> {
        let due = [self.engine.poll_timeout(), self.streams.poll_timeout(), self.listeners_timeout()];
        let due = due.into_iter().flatten().min();
        let mut timeout = due.map(|due| due.saturating_duration_since(clock::now()));
        if timeout != Some(Duration::ZERO) && !self.wake.arm() {
            timeout = Some(Duration::ZERO);
        }
        let events = self.epoll.wait(timeout)?;
        let signalled = self.wake.take();
        if signalled && self.stop.load(Ordering::Acquire) {
            self.exit.get_or_insert(Exit::Shutdown);
        }
        Ok((events, signalled))
    }

    fn listeners_timeout(&self) -> Option<Instant> {
        self.ports.tcp.iter().filter_map(Listener::poll_timeout).min()
    }

    fn take_mail(&mut self, now: Instant, mut mail: Mail) {
        let socket = match &mut mail {
            Mail::Stream { socket, .. } => socket.take(),
            Mail::Direct { .. } | Mail::Pipe { .. } => None,
        };
        let Some(socket) = socket else { return self.engine.handle_mail(now, mail, None) };
        let (id, registered) = self.streams.adopt(&self.epoll, socket);
        self.engine.handle_mail(now, mail, Some(id));
        if let Err(error) = registered {
            tracing::warn!(%error, "a stream that was handed over cannot be watched");
            self.engine.handle_stream_closed(now, id);
        }
    }

    fn socket_ready(&mut self, ready: Ready) {
        match ready.token {
            CONTROL => {}
            WAKE => self.wake.drain(),
            token if token >= stream::TOKEN => {
                let id = StreamId((token & 0xffff_ffff) as u32);
                let now = clock::now();
                if ready.read {
                    self.streams.read(now, id, &mut self.engine, &mut self.counters);
                }
                if ready.write {
                    self.streams.push(now, id, &self.epoll, &mut self.engine, &mut self.counters);
                }
            }
            token if token >= LEGS => self.receive_leg((token - LEGS) as usize),
            token if token >= SOCKETS => self.receive((token - SOCKETS) as usize),
            token => self.accept((token - LISTENERS) as usize),
        }
    }

    /// Takes the datagrams that wait on a socket, up to the bound of a round.
    fn receive(&mut self, index: usize) {
        let Some(socket) = self.ports.udp.get_mut(index) else { return };
        for _ in 0..self.config.receive_calls {
            let received = match self.receiver.receive(socket) {
                Ok(received) => received,
                Err(error) => {
                    tracing::debug!(%error, "receiving failed");
                    return;
                }
            };
            let now = clock::now();
            let (counters, engine) = (&mut self.counters, &mut self.engine);
            deliver(&mut self.receiver, socket, counters, (index as u32, received), |path, datagram| {
                engine.handle_datagram(now, path, datagram);
            });
            if received < self.receiver.capacity() {
                return;
            }
        }
    }

    /// Takes the datagrams that wait on a leg's socket.
    fn receive_leg(&mut self, slot: usize) {
        let Some(socket) = self.legs.slot(slot) else { return };
        let number = slot as u32 + FIRST_LEG_SOCKET;
        for _ in 0..self.config.receive_calls {
            let received = match self.receiver.receive_some(socket, LEG_MESSAGES) {
                Ok(received) => received,
                Err(error) => {
                    // The other side's host may tell so that nobody listens there.
                    tracing::trace!(%error, "receiving failed");
                    return;
                }
            };
            let now = clock::now();
            let (counters, engine) = (&mut self.counters, &mut self.engine);
            deliver(&mut self.receiver, socket, counters, (number, received), |path, datagram| {
                engine.handle_leg(now, path, datagram);
            });
            if received < LEG_MESSAGES {
                return;
            }
        }
    }

    fn open_leg(&mut self, leg: u32, ip: Option<IpAddr>, ipv6: bool, pair: bool) {
        let ip = ip.or_else(|| legs::listen_address(&self.config, ipv6));
        let opened = match ip {
            Some(ip) => self.legs.open(&self.leg_ports, (ip, pair), &self.config, &self.epoll, LEGS),
            None => Err("no address to listen on".into()),
        };
        self.engine.handle_leg_opened(self.began, leg, opened);
    }

    fn open_mirror(&mut self, transport: u32, ip: Option<IpAddr>, ipv6: bool) {
        let ip = ip.or_else(|| legs::listen_address(&self.config, ipv6));
        let opened = match ip {
            Some(ip) => self.legs.open(&self.leg_ports, (ip, false), &self.config, &self.epoll, LEGS),
            None => Err("no address to send from".into()),
        };
        self.engine.handle_mirror_opened(transport, opened.map(|sockets| sockets.rtp));
    }

    fn accept(&mut self, index: usize) {
        let Some(listener) = self.ports.tcp.get_mut(index) else { return };
        let now = clock::now();
        listener.accept(now, &self.epoll, |connection| {
            self.streams.accept(now, &self.epoll, connection, &mut self.counters);
        });
    }

    fn timeouts(&mut self, now: Instant) {
        if self.engine.poll_timeout().is_some_and(|due| due <= now) {
            self.engine.handle_timeout(now);
        }
        self.streams.handle_timeout(now, &mut self.engine, &mut self.counters);
        for listener in &mut self.ports.tcp {
            listener.handle_timeout(now, &self.epoll);
        }
    }

    fn actions(&mut self) {
        while let Some(action) = self.engine.poll_action() {
            let now = self.began;
            match action {
                Action::Write { stream, bytes } => {
                    if !self.streams.write(stream, &bytes, &mut self.counters) {
                        self.engine.handle_stream_closed(now, stream);
                    }
                }
                Action::OpenLeg { leg, ip, ipv6, pair } => self.open_leg(leg, ip, ipv6, pair),
                Action::OpenMirror { transport, ip, ipv6 } => self.open_mirror(transport, ip, ipv6),
                Action::CloseSocket { socket } => self.legs.close(socket),
                Action::Close { stream } => self.streams.close(now, stream),
                Action::Log(settings) => {
                    if let Some(log) = &self.log {
                        log.set(settings);
                    }
                }
                Action::Shutdown => {
                    self.exit.get_or_insert(Exit::Shutdown);
                }
            }
        }
    }

    fn flush(&mut self) {
        let now = clock::now();
        loop {
            let more = self.engine.flush(now, &mut self.batch) && !self.batch.is_empty();
            if !self.batch.is_empty() {
                // Split so that TCP frames can be queued while the batch's datagrams are sent.
                let (mut frames, streams) = (IoCounters::default(), &mut self.streams);
                let mut sockets = AllSockets { own: &mut self.ports.udp, legs: &mut self.legs };
                self.sender.send(&mut sockets, &self.batch, &mut self.counters, |id, frame| {
                    streams.frame(id, frame, &mut frames);
                });
                self.counters.tcp_out_packets += frames.tcp_out_packets;
                self.counters.tcp_out_dropped += frames.tcp_out_dropped;
                self.batch.clear();
            }
            if !more {
                break;
            }
        }
        self.legs.flushed();
        // What the flush made known (a session that ended) is acted on in this round.
        self.actions();
        self.streams.flush(now, &self.epoll, &mut self.engine, &mut self.counters);
    }

    fn control_out(&mut self) -> io::Result<()> {
        if !self.control.write(&mut self.engine) {
            self.exit.get_or_insert(Exit::ControlClosed);
        }
        let wanted = self.control.interest();
        if wanted != self.control_watched {
            self.epoll.modify(&self.control, CONTROL, wanted)?;
            self.control_watched = wanted;
        }
        Ok(())
    }

    fn finish_round(&mut self) {
        let ended = clock::now();
        self.load.round(self.began, ended, self.requests, sys::thread_cpu_time);
        self.counters.rounds += 1;
        self.counters.load_permille = (self.load.load() * 1000.0) as u64;
        self.counters.streams = self.streams.len() as u64;
        self.counters.legs = self.legs.len() as u64;
        self.stats.publish(&self.counters);
    }
}

/// Counts what one receiving call on socket `number` brought, and gives each datagram to `each`.
fn deliver(
    receiver: &mut Receiver,
    socket: &mut UdpSocket,
    counters: &mut IoCounters,
    (number, received): (u32, usize),
    mut each: impl FnMut(Path, &mut [u8]),
) {
    counters.udp_in_calls += 1;
    counters.udp_in_messages += received as u64;
    for message in 0..received {
        let Some(mut train) = receiver.train(message) else {
            counters.udp_in_malformed += 1;
            continue;
        };
        if let Some(total) = train.overflow {
            counters.udp_in_overflow += u64::from(socket.overflowed(total));
        }
        counters.udp_in_bytes += train.len() as u64;
        let path = Path::Udp { socket: number, local: train.local, remote: train.remote };
        for datagram in train.datagrams() {
            counters.udp_in_packets += 1;
            each(path, datagram);
        }
    }
}
