// SPDX-License-Identifier: GPL-2.0

//! Full feature phase as a whole: PDUs of all kinds, right, slightly wrong and at random, through the parsers and state
//! machines in the order in which a connection's thread uses them. What an initiator can have in flight is bounded by
//! what it was granted; each PDU causes a bounded number of others; each command is answered once.
// fuzz: -max_len=500

#![no_main]

use iscsi_proto::{
    ahs,
    error::Error,
    ffp::{self, admits, text::Exchange, Function, Logout, TmfAnswer},
    login::SessionType,
    negotiate::Parameters,
    pdu::{self, DataOut, Direction, Head, Numbers, Request, ScsiCommand, TextRequest},
    seq::{Admission, CmdWindow, StatSeq},
    sn::{CmdSn, StatSn},
    text::TEXT_MAX,
    transfer::Write,
    wire::{Bhs, Cid, Itt, Lun, Ttt},
};
use libfuzzer_sys::fuzz_target;
use lio_fuzz::Input;

const CID: Cid = Cid(3);
/// Commands beside the window: immediate ones.
const IMMEDIATE: u32 = 2;

/// A command from its arrival to its answer.
struct Task {
    itt: Itt,
    lun: Lun,
    numbered: bool,
    /// Its data is coming in; else it is at the back end.
    write: Option<Write>,
}

struct Connection {
    kind: SessionType,
    parameters: Parameters,
    depth: u32,
    window: CmdWindow,
    stat: StatSeq,
    tasks: Vec<Option<Task>>,
    exchange: Exchange,
    /// The number that the next response must have.
    due: StatSn,
    /// PDUs that the last request caused.
    caused: usize,
    closing: bool,
}

impl Connection {
    fn new(input: &mut Input<'_>) -> Self {
        let bits = input.u8();
        let depth = 1 + u32::from(bits >> 5);
        let parameters = Parameters {
            initial_r2t: bits & 1 != 0,
            immediate_data: bits & 2 != 0,
            max_recv: 512 + u32::from(input.u16()),
            max_xmit: 512 + u32::from(input.u8()),
            max_burst: 1024,
            first_burst: 512 << input.below(2),
            max_outstanding_r2t: 1 + u16::from(input.u8() & 3),
            ..Parameters::default()
        };
        let first = CmdSn(u32::MAX - u32::from(bits & 0x0f));
        Connection {
            kind: if bits & 0x10 != 0 {
                SessionType::Discovery
            } else {
                SessionType::Normal
            },
            parameters,
            depth,
            window: CmdWindow::new(first, depth),
            stat: StatSeq::new(StatSn(u32::MAX)),
            tasks: (0..depth + IMMEDIATE).map(|_| None).collect(),
            exchange: Exchange::default(),
            due: StatSn(u32::MAX),
            caused: 0,
            closing: false,
        }
    }

    fn respond(&mut self) -> Numbers {
        let sn = self.window.numbers(&mut self.stat);
        assert_eq!(sn.stat_sn, self.due);
        self.due = self.due.next();
        self.caused += 1;
        sn
    }

    fn reject(&mut self, bhs: &Bhs, error: &Error) {
        let sn = self.respond();
        let mut out = [0; 48];
        pdu::Reject::new(error.reason, sn).emit(&mut out);
        assert_eq!((out[0], out[2]), (0x3f, error.reason as u8));
        assert!(!error.clause.is_empty() && bhs.len() == 48);
        self.closing |= error.close;
    }

    fn numbered(&mut self, bhs: &Bhs, head: &Head, cmd_sn: CmdSn, exp_stat_sn: StatSn) -> bool {
        self.stat.acknowledge(exp_stat_sn);
        match self.window.admit(cmd_sn, head.immediate) {
            Ok(admission) => admission == Admission::Execute,
            Err(error) => {
                self.reject(bhs, &error);
                false
            }
        }
    }

    /// A PDU whose header this is. What is left of it is in `input`.
    fn receive(&mut self, bhs: &Bhs, input: &mut Input<'_>) {
        self.caused = 0;
        let head = Head::of(bhs);
        if let Err(error) = head.check_lengths(self.parameters.max_recv) {
            assert!(error.close);
            return self.reject(bhs, &error);
        }
        let segments = input.bytes(head.ahs_len.into());
        let request = match pdu::parse(bhs)
            .and_then(|(_, request)| admits(self.kind, 0, &request).map(|()| request))
        {
            Ok(request) => request,
            Err(error) => return self.reject(bhs, &error),
        };
        assert!(!matches!(request, Request::Login(_) | Request::Snack(_)));
        let mut most = 1;
        match &request {
            Request::ScsiCommand(command) => {
                most = usize::from(self.parameters.max_outstanding_r2t);
                self.command(bhs, &head, segments, command);
            }
            Request::DataOut(data) => {
                most = usize::from(self.parameters.max_outstanding_r2t);
                self.data_out(bhs, data);
            }
            Request::NopOut(nop) => {
                let wants = ffp::nop_out(nop);
                assert_eq!(
                    (wants.ping.is_some(), wants.pong.is_some()),
                    (nop.itt != Itt::NONE, nop.ttt != Ttt::NONE)
                );
                if self.numbered(bhs, &head, nop.cmd_sn, nop.exp_stat_sn) && wants.ping.is_some() {
                    self.settle(!head.immediate);
                    self.respond();
                }
            }
            Request::Tmf(tmf) => {
                assert_eq!(
                    Function::of(tmf).map(|f| f as u8),
                    Some(tmf.function & 0x7f).filter(|f| (1..=8).contains(f))
                );
                if self.numbered(bhs, &head, tmf.cmd_sn, tmf.exp_stat_sn) {
                    // Of a command that is not there, only what can have been lost counts as done.
                    if ffp::missing_task(tmf, self.window.expected(), self.window.max())
                        == TmfAnswer::Complete
                    {
                        assert!(tmf.ref_cmd_sn.not_after(self.window.max()));
                        assert!(!tmf.ref_cmd_sn.before(self.window.expected()));
                    }
                    self.settle(!head.immediate);
                    self.respond();
                }
            }
            Request::Text(text) => self.text(bhs, &head, text, input),
            Request::Logout(logout) => {
                if self.numbered(bhs, &head, logout.cmd_sn, logout.exp_stat_sn) {
                    self.settle(!head.immediate);
                    let answer = ffp::logout(logout, CID, 0, |_| false);
                    let close = matches!(answer, Logout::Session | Logout::Own(_));
                    let own =
                        logout.reason & 0x7f == 0 || logout.reason & 0x7f == 1 && logout.cid == CID;
                    assert_eq!(close, own);
                    assert!(!matches!(answer, Logout::Other(..)));
                    self.respond();
                    self.closing |= close;
                }
            }
            Request::Login(_) | Request::Snack(_) => {}
        }
        assert!(self.caused <= most, "one PDU causes {}", self.caused);
        let numbered = self
            .tasks
            .iter()
            .flatten()
            .filter(|task| task.numbered)
            .count();
        assert!(
            numbered as u32 + self.window.open() == self.depth,
            "the window is wrong"
        );
    }

    fn settle(&mut self, numbered: bool) {
        if numbered {
            self.window.release();
        }
    }

    fn command(&mut self, bhs: &Bhs, head: &Head, segments: &[u8], command: &ScsiCommand) {
        assert_eq!(self.kind, SessionType::Normal);
        let more = match ahs::parse(segments) {
            Ok(segments) => segments.extended_cdb.map_or(0, |cdb| cdb.len()),
            Err(error) => return self.reject(bhs, &error),
        };
        assert!(command.cdb.len() + more <= 260);
        if !self.numbered(bhs, head, command.cmd_sn, command.exp_stat_sn) {
            return;
        }
        let numbered = !head.immediate;
        if command.direction() == Direction::Bidirectional {
            self.settle(numbered);
            self.respond();
            return;
        }
        let Some(free) = self.tasks.iter().position(Option::is_none) else {
            // The window has room for each command with a number.
            assert!(!numbered);
            self.respond();
            return;
        };
        if head.immediate
            && self
                .tasks
                .iter()
                .flatten()
                .filter(|task| !task.numbered)
                .count() as u32
                >= IMMEDIATE
        {
            self.respond();
            return;
        }
        let write = command
            .flags
            .write()
            .then(|| Write::new(command, &self.parameters, free as u16, command.expected_len));
        self.tasks[free] = Some(Task {
            itt: command.itt,
            lun: command.lun,
            numbered,
            write,
        });
        self.go_on(free);
    }

    fn data_out(&mut self, bhs: &Bhs, data: &DataOut) {
        self.stat.acknowledge(data.exp_stat_sn);
        let waits = |task: &&Task| task.itt == data.itt && task.write.is_some();
        let which = if data.ttt == Ttt::NONE {
            self.tasks
                .iter()
                .position(|task| task.as_ref().filter(waits).is_some())
        } else {
            let index = usize::from(data.ttt.index());
            self.tasks
                .get(index)
                .and_then(Option::as_ref)
                .filter(waits)
                .map(|_| index)
        };
        let Some(write) = which.and_then(|i| self.tasks[i].as_mut()?.write.as_mut()) else {
            return;
        };
        match write.data_out(data) {
            Ok(place) => {
                assert!(place.keep <= data.data_len.bytes());
                self.go_on(which.unwrap());
            }
            Err(error) => self.reject(bhs, &error),
        }
    }

    /// Asks for more of a command's data; what is complete goes to the back end.
    fn go_on(&mut self, index: usize) {
        let Some(task) = self.tasks[index].as_mut() else {
            return;
        };
        let Some(write) = task.write.as_mut() else {
            return;
        };
        if write.complete() {
            task.write = None;
            return;
        }
        while let Some(wanted) = write.next_r2t() {
            let r2t = pdu::R2t {
                lun: task.lun,
                itt: task.itt,
                ttt: wanted.ttt,
                sn: self.window.with_stat_sn(self.stat.next()),
                r2t_sn: wanted.r2t_sn,
                offset: wanted.offset,
                length: wanted.length,
            };
            assert_eq!(
                (r2t.sn.stat_sn, usize::from(r2t.ttt.index())),
                (self.due, index)
            );
            self.caused += 1;
        }
    }

    fn text(&mut self, bhs: &Bhs, head: &Head, text: &TextRequest, input: &mut Input<'_>) {
        if !self.numbered(bhs, head, text.cmd_sn, text.exp_stat_sn) {
            return;
        }
        self.settle(!head.immediate);
        let held = match self.exchange.held(text) {
            Ok(held) => held,
            Err(error) => return self.reject(bhs, &error),
        };
        assert!(held + text.data_len.bytes() as usize <= TEXT_MAX);
        let (window, stat, max) = (self.window, &mut self.stat, self.parameters.max_xmit);
        let before = stat.next();
        let step = self.exchange.request(text, max, || window.numbers(stat));
        match step {
            Ok(ffp::text::Step::Complete) => {
                let sn = self.respond();
                let total = usize::from(input.u16());
                assert!(matches!(
                    self.exchange.reply(total, max, sn),
                    ffp::text::Step::Send { offset: 0, .. }
                ));
            }
            Ok(_) => {
                assert_eq!(self.stat.next(), before.next());
                self.due = self.due.next();
                self.caused += 1;
            }
            Err(error) => {
                assert_eq!(self.stat.next(), before);
                self.exchange.reset();
                self.reject(bhs, &error);
            }
        }
    }

    /// The back end has answered a command.
    fn answer(&mut self, which: usize) {
        let n = self.tasks.len();
        if let Some(task) = self.tasks[which % n].take_if(|task| task.write.is_none()) {
            self.settle(task.numbered);
            self.respond();
        }
    }
}

/// A header that is right, or was so before some bits were turned.
fn header(connection: &Connection, input: &mut Input<'_>) -> Bhs {
    const OPCODES: [u8; 8] = [0x00, 0x01, 0x02, 0x04, 0x05, 0x06, 0x01, 0x05];
    let kind = input.u8();
    if kind == 0xff {
        return input.array();
    }
    let mut bhs = [0; 48];
    bhs[0] = OPCODES[usize::from(kind & 7)];
    if kind & 0x18 == 0x18 {
        bhs[0] |= 0x40;
    }
    bhs[16..20].copy_from_slice(&u32::from(kind >> 5).to_be_bytes());
    bhs[24..28].copy_from_slice(&connection.window.expected().0.to_be_bytes());
    bhs[28..32].copy_from_slice(&connection.stat.next().0.to_be_bytes());
    let len = u32::from(input.u16());
    match bhs[0] & 0x3f {
        0x01 => {
            bhs[1] = [0xa1, 0x21, 0xc1, 0x81, 0xe1][input.below(5)];
            if bhs[1] & 0x60 != 0 {
                bhs[20..24].copy_from_slice(&(len << input.below(3)).to_be_bytes());
            }
            if bhs[1] & 0x20 != 0 && connection.parameters.immediate_data {
                let immediate = (u32::from(input.u8()) * 4).min(len);
                bhs[5..8].copy_from_slice(&immediate.to_be_bytes()[1..]);
            }
        }
        0x05 => {
            // What the command with this tag waits for.
            let round = u32::from(input.u8());
            let index = connection
                .tasks
                .iter()
                .position(|t| t.as_ref().is_some_and(|t| t.itt.0 == u32::from(kind >> 5)));
            let ttt = match round {
                0xff => Ttt::NONE,
                round => Ttt::new(index.unwrap_or(0) as u16, round >> 2),
            };
            bhs[1] = if round & 1 == 0 { 0x80 } else { 0 };
            bhs[20..24].copy_from_slice(&ttt.0.to_be_bytes());
            bhs[5..8].copy_from_slice(&len.to_be_bytes()[1..]);
            let at = index.and_then(|i| Some(connection.tasks[i].as_ref()?.write?.received()));
            bhs[40..44].copy_from_slice(&at.unwrap_or(0).to_be_bytes());
            bhs[39] = input.u8();
        }
        0x04 => {
            bhs[1] = [0x80, 0x00, 0x40][input.below(3)];
            bhs[5..8].copy_from_slice(&len.to_be_bytes()[1..]);
            let ttt = match input.u8() {
                0 => Ttt::NONE,
                round => Ttt::new(ffp::text::TEXT_INDEX, round.into()),
            };
            bhs[20..24].copy_from_slice(&ttt.0.to_be_bytes());
        }
        _ => {
            bhs[1] = 0x80 | input.u8() & 0x0f;
            bhs[20..24].copy_from_slice(&len.to_be_bytes());
        }
    }
    for _ in 0..input.u8().saturating_sub(0xf8) {
        bhs[input.below(48)] ^= 1 << input.below(8);
    }
    bhs
}

fuzz_target!(|input: &[u8]| {
    let mut input = Input::new(input);
    let mut connection = Connection::new(&mut input);
    while !input.is_empty() && !connection.closing {
        if input.u8() & 7 == 0 {
            let which = usize::from(input.u8());
            connection.answer(which);
        } else {
            let bhs = header(&connection, &mut input);
            connection.receive(&bhs, &mut input);
        }
    }
});
