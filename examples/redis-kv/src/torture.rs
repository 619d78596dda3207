//! A server that is killed again and again while clients write, and what they find afterwards.
//!
//! Each writer owns keys of its own and remembers what they should hold. It sends pipelines of
//! numbered steps: a SET, a DEL, or a transaction that sets a pair of keys to the same number. The
//! server dies (SIGKILL) after a random number of acknowledgements, or while it is starting. Then
//! the keys of each writer must hold exactly what was acknowledged, followed by the first few of
//! the steps that it was not told about, each done as a whole or not at all.
//!
//! A reader looks at the pairs of all writers meanwhile. Both halves must be the same at any time,
//! and what it has seen must not be forgotten: it was durable when it was shown.

use std::collections::{BTreeMap, VecDeque};
use std::error::Error;
use std::fmt;
use std::io::{self, BufRead, BufReader};
use std::mem;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::Duration;

use crate::client::{Client, encode};
use crate::resp::Reply;

const SINGLES: u64 = 8;
const PAIRS: u64 = 4;
/// Steps of a pipeline at most.
const PIPELINE: u64 = 8;

/// What to do.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "each says it")]
pub struct Torture {
    pub program: PathBuf,
    pub dir: PathBuf,
    pub kills: u64,
    pub writers: u64,
    pub seed: u64,
}

/// What was found. That nothing was lost is not in it: a loss is an error.
#[derive(Debug, Clone, Default)]
#[expect(missing_docs, reason = "each says it")]
pub struct Report {
    pub kills: u64,
    /// Of these, while the server was starting.
    pub early: u64,
    pub acknowledged: u64,
    /// Steps that nobody was told about, and those of them that survived.
    pub in_flight: u64,
    pub survived: u64,
    pub reads: u64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kills, early, acknowledged, in_flight, survived, reads } = self;
        write!(
            f,
            "{kills} kills ({early} while starting): {acknowledged} acknowledged steps, all there; \
             {in_flight} in flight, of which {survived} survived, none by halves; {reads} pairs \
             read, all whole, none forgotten"
        )
    }
}

type AnyResult<T> = Result<T, Box<dyn Error + Send + Sync>>;
/// What keys become together.
type Step = Vec<(String, Option<u64>)>;
type Held = BTreeMap<String, Option<u64>>;

/// Kills the server as often as it should, and looks.
///
/// # Errors
/// What was lost, or went wrong otherwise.
pub fn run(torture: &Torture) -> AnyResult<Report> {
    let mut dice = Dice(torture.seed);
    let mut report = Report::default();
    let mut writers: Vec<_> = (0..torture.writers).map(|id| Writer::new(id, &mut dice)).collect();
    let mut reader = Reader::default();
    while report.kills < torture.kills {
        let mut server = Served::start(torture)?;
        if report.kills > 0 && dice.below(4) == 0 {
            thread::sleep(Duration::from_micros(dice.below(8_000)));
            server.kill()?;
            report.kills += 1;
            report.early += 1;
            continue;
        }
        let port = server.port()?;
        let mut client = Client::connect(("127.0.0.1", port))?;
        for writer in &mut writers {
            writer.check(&mut client, &mut report)?;
        }
        reader.check(&writers)?;
        let quota = dice.below(500);
        let (tell, told) = mpsc::channel();
        thread::scope(|scope| {
            for writer in &mut writers {
                let tell = tell.clone();
                scope.spawn(move || writer.write(port, &tell));
            }
            let readings = scope.spawn(|| reader.read(port, torture.writers));
            drop(tell);
            for step in told.iter().take(usize::try_from(quota)?) {
                step?;
            }
            server.kill()?;
            report.kills += 1;
            // What was on its way when the server died counts as well.
            told.iter().try_for_each(|step| step)?;
            report.reads += readings.join().map_err(|_| "the reader panicked")??;
            Ok::<_, Box<dyn Error + Send + Sync>>(())
        })?;
    }
    let mut server = Served::start(torture)?;
    let mut client = Client::connect(("127.0.0.1", server.port()?))?;
    writers.iter_mut().try_for_each(|writer| writer.check(&mut client, &mut report))?;
    reader.check(&writers)?;
    Ok(report)
}

/// A server process, killed when dropped.
struct Served(Child);

impl Served {
    fn start(torture: &Torture) -> io::Result<Self> {
        // Small ones, so that there are many checkpoints.
        let small = ["--port", "0", "--checkpoint-bytes", "65536", "--segment-bytes", "32768"];
        let mut command = Command::new(&torture.program);
        command.arg("serve").args(small).arg(&torture.dir).stdout(Stdio::piped());
        command.spawn().map(Self)
    }

    /// Waits until it serves.
    fn port(&mut self) -> AnyResult<u16> {
        let said = self.0.stdout.take().ok_or("asked twice")?;
        for line in BufReader::new(said).lines() {
            if let Some(address) = line?.strip_prefix("listening on 127.0.0.1:") {
                return Ok(address.parse()?);
            }
        }
        Err("the server did not start".into())
    }

    fn kill(&mut self) -> AnyResult<()> {
        if let Some(status) = self.0.try_wait()? {
            return Err(format!("the server ended by itself: {status}").into());
        }
        self.0.kill()?;
        self.0.wait()?;
        Ok(())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // It may be gone already.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// A client that writes, and what its keys should hold.
struct Writer {
    id: u64,
    dice: Dice,
    number: u64,
    held: Held,
    /// Steps that were sent and not acknowledged, in order.
    in_flight: VecDeque<Step>,
    acknowledged: u64,
}

impl Writer {
    fn new(id: u64, dice: &mut Dice) -> Self {
        let dice = Dice(dice.next());
        let pairs = (0..PAIRS).flat_map(|pair| halves(id, pair));
        let keys = pairs.chain((0..SINGLES).map(|single| format!("{id}:single:{single}")));
        let held = keys.map(|key| (key, None)).collect();
        Self { id, dice, number: 0, held, in_flight: VecDeque::new(), acknowledged: 0 }
    }

    /// Writes until the server dies; tells of each acknowledged step, and of what is wrong.
    fn write(&mut self, port: u16, tell: &Sender<Result<(), String>>) {
        let Ok(mut client) = Client::connect(("127.0.0.1", port)) else { return };
        loop {
            let steps: Vec<_> = (0..=self.dice.below(PIPELINE)).map(|_| self.step()).collect();
            let pipeline: Vec<_> = steps.iter().flat_map(request).collect();
            self.in_flight.extend(steps);
            if client.send(&pipeline).is_err() {
                return;
            }
            while let Some(step) = self.in_flight.front() {
                let Ok(reply) = answer(step, &mut client) else { return };
                let expected = self.expected(step);
                if reply != expected {
                    let what = format!("{step:?} was answered by {reply:?}, not {expected:?}");
                    tell.send(Err(what)).ok();
                    return;
                }
                self.held.extend(self.in_flight.pop_front().into_iter().flatten());
                self.acknowledged += 1;
                tell.send(Ok(())).ok();
            }
        }
    }

    /// Something to do, with a number that was never used before.
    fn step(&mut self) -> Step {
        self.number += 1;
        let single = format!("{}:single:{}", self.id, self.dice.below(SINGLES));
        match self.dice.below(4) {
            0 => vec![(single, None)],
            1 => vec![(single, Some(self.number))],
            _ => halves(self.id, self.dice.below(PAIRS)).map(|key| (key, Some(self.number))).into(),
        }
    }

    fn expected(&self, step: &Step) -> Reply {
        match step.as_slice() {
            [(key, None)] => Reply::Integer(u64::from(self.held[key].is_some())),
            [_] => Reply::OK,
            _ => Reply::Array(step.iter().map(|_| Reply::OK).collect()),
        }
    }

    /// The keys must hold what was acknowledged and the first few of the steps in flight, which
    /// are then no longer in doubt.
    fn check(&mut self, client: &mut Client, report: &mut Report) -> AnyResult<()> {
        let mut found = Held::new();
        for key in self.held.keys() {
            found.insert(key.clone(), value(&client.ask(&["GET", key])?)?);
        }
        report.in_flight += self.in_flight.len() as u64;
        report.acknowledged += mem::take(&mut self.acknowledged);
        let acknowledged = self.held.clone();
        let mut steps = mem::take(&mut self.in_flight).into_iter();
        while self.held != found {
            let Some(step) = steps.next() else {
                let id = self.id;
                return Err(format!(
                    "writer {id}: acknowledged\n{acknowledged:?}\nfound\n{found:?}"
                )
                .into());
            };
            report.survived += 1;
            self.held.extend(step);
        }
        Ok(())
    }
}

/// Who looks at the pairs, and the numbers that it has seen.
#[derive(Default)]
struct Reader(BTreeMap<String, u64>);

impl Reader {
    /// Reads until the server dies; returns how often.
    fn read(&mut self, port: u16, writers: u64) -> AnyResult<u64> {
        let Ok(mut client) = Client::connect(("127.0.0.1", port)) else { return Ok(0) };
        for reads in 0_u64.. {
            let keys = halves(reads % writers, (reads / writers) % PAIRS);
            let gets = keys.iter().flat_map(|key| encode(&["GET", key]));
            let pipeline: Vec<_> =
                encode(&["MULTI"]).into_iter().chain(gets).chain(encode(&["EXEC"])).collect();
            let replies = client
                .send(&pipeline)
                .and_then(|()| (0..4).map(|_| client.reply()).collect::<io::Result<Vec<_>>>());
            let Ok(replies) = replies else { return Ok(reads) };
            let Some(Reply::Array(both)) = replies.last() else {
                return Err(format!("{keys:?}: {replies:?}").into());
            };
            if both.len() != 2 || both[0] != both[1] {
                return Err(format!("half a transaction: {keys:?} are {both:?}").into());
            }
            let Some(number) = value(&both[0])? else { continue };
            let [key, _] = keys;
            if let Some(before) = self.0.insert(key, number)
                && before > number
            {
                return Err(format!("{before} was read, and then {number}").into());
            }
        }
        Ok(0)
    }

    /// What was seen is still there, or something newer.
    fn check(&self, writers: &[Writer]) -> AnyResult<()> {
        let held = |key| writers.iter().find_map(|writer| writer.held.get(key)).copied().flatten();
        match self.0.iter().find(|(key, seen)| held(key.as_str()) < Some(**seen)) {
            None => Ok(()),
            Some((key, seen)) => {
                Err(format!("{key} was read as {seen}, and is {:?}", held(key)).into())
            }
        }
    }
}

/// The two keys that always agree.
fn halves(writer: u64, pair: u64) -> [String; 2] {
    ["left", "right"].map(|half| format!("{writer}:{half}:{pair}"))
}

fn request(step: &Step) -> Vec<u8> {
    let one = |(key, number): &(String, Option<u64>)| match number {
        Some(number) => encode(&["SET", key, &number.to_string()]),
        None => encode(&["DEL", key]),
    };
    match step.as_slice() {
        [single] => one(single),
        _ => [encode(&["MULTI"]), step.iter().flat_map(one).collect(), encode(&["EXEC"])].concat(),
    }
}

/// The reply that says what became of a step.
fn answer(step: &Step, client: &mut Client) -> io::Result<Reply> {
    if step.len() > 1 {
        // Those to MULTI and to what is queued.
        for _ in 0..=step.len() {
            client.reply()?;
        }
    }
    client.reply()
}

fn value(reply: &Reply) -> AnyResult<Option<u64>> {
    match reply {
        Reply::Bulk(None) => Ok(None),
        Reply::Bulk(Some(bytes)) => Ok(Some(std::str::from_utf8(bytes)?.parse()?)),
        other => Err(format!("no value: {other:?}").into()),
    }
}

/// Random numbers that a seed repeats (`SplitMix64`).
#[derive(Debug)]
pub struct Dice(pub u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}
