//! Fifty connections that embed, generate and count, half of which leave at random in the middle of a request.
//!
//! Every answer must be the one that the same request got alone, so none has come to another connection. Afterwards the
//! server is as it was before: memory, descriptors, threads, no work. Seconds by default, five minutes with
//! PG_RAG_LONG_TESTS=1.

use super::process::*;
use pg_rag_protocol::message::*;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const CONNECTIONS: usize = 50;

/// Growth of the resident set from the end of the warm-up on. A leak of one answer in a thousand would be more in minutes;
/// what is allowed is the allocator's: threads come and go, and each leaves some free memory in its arena.
const MOST_GROWTH: u64 = 24 << 20;

/// How long work that nobody waits for any more may go on: a slice of a prompt on a machine that does other things too.
const CANCEL_LIMIT: Duration = Duration::from_secs(5);

fn duration() -> Duration {
    match std::env::var("PG_RAG_LONG_TESTS").is_ok_and(|value| value == "1") {
        true => Duration::from_secs(300),
        false => Duration::from_secs(8),
    }
}

/// Random numbers that a seed determines.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 20) as usize % limit
    }
}

/// Requests of all kinds, each with its answer.
fn requests() -> Vec<Request> {
    let sentence =
        |i: usize| format!("Sentence number {i}: a partial index covers the rows that satisfy its predicate. ");
    let mut requests = Vec::new();
    let embed = |texts: Vec<String>, lane| Request::Embed {
        model: embed_model(),
        texts,
        purpose: Purpose::Passage,
        lane,
        caller: ANYBODY,
    };
    for i in 0..12 {
        requests.push(embed(vec![sentence(i)], Lane::Interactive));
        requests.push(embed((0..i).map(|part| sentence(part * i).repeat(part % 4)).collect(), Lane::Bulk));
        let model = if i % 2 == 0 { embed_model() } else { generate_model() };
        requests.push(Request::Tokenize { model, texts: vec![sentence(i); 3], add_special: true });
    }
    for (i, question) in
        ["Name three colors.", "What is the capital of France?", "Say hello.", "Count to ten."].into_iter().enumerate()
    {
        requests.push(generate(question, 5 + 3 * i as u32));
        let mut random = generate(&format!("{question} {}", sentence(i).repeat(3 * i)), 12);
        if let Request::Generate { params, stream, .. } = &mut random {
            (params.temperature, params.seed, *stream) = (1.1, i as u64, false);
        }
        requests.push(random);
        requests.push(Request::CountPrompt {
            model: generate_model(),
            messages: vec![ChatMessage { role: Role::User, content: sentence(i) }],
        });
    }
    requests
}

/// What must be the same every time.
fn comparable(response: Response) -> Response {
    match response {
        Response::Generated { text, finish, usage } => {
            // Without the times.
            let usage = Usage { queue_ms: 0.0, prefill_ms: 0.0, decode_ms: 0.0, ..usage };
            Response::Generated { text, finish, usage }
        }
        Response::Failed(failure) => panic!("{failure:?}"),
        response => response,
    }
}

/// What the storm has done.
#[derive(Default)]
struct Counts {
    answers: AtomicUsize,
    cancelled: AtomicUsize,
}

#[test]
fn fifty_connections_half_of_which_leave_at_random() {
    let mut server = Server::start("storm");
    let mut observer = server.connect();
    let requests = requests();
    let expected: Vec<Response> = requests.iter().map(|request| comparable(observer.answer(request))).collect();
    let again: Vec<Response> = requests.iter().map(|request| comparable(observer.answer(request))).collect();
    assert!(expected == again, "answers are not repeatable even alone");
    server.expect_idle();
    let (descriptors, threads) = (server.descriptors(), server.threads());

    let (door, counts) = (server.door(), Counts::default());
    let (begin, duration) = (Instant::now(), duration());
    let warm = std::thread::scope(|scope| {
        for index in 0..CONNECTIONS {
            let (door, counts, requests, expected) = (door.clone(), &counts, &requests, &expected);
            scope.spawn(move || {
                let mut random = Random(0x9e37_79b9_7f4a_7c15 * (index as u64 + 1));
                let mut client = door.connect();
                while begin.elapsed() < duration {
                    let which = random.below(requests.len());
                    if index % 2 == 1 && random.below(2) == 0 {
                        client.send(&requests[which]);
                        // From before the server has read the request until after it has answered many a one.
                        let most = 1 << (6 + random.below(11));
                        std::thread::sleep(Duration::from_micros(random.below(most) as u64));
                        client = door.connect();
                        counts.cancelled.fetch_add(1, Ordering::Relaxed);
                    } else {
                        let answer = comparable(client.answer(&requests[which]));
                        assert!(answer == expected[which], "another answer to {:?}", requests[which]);
                        counts.answers.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        std::thread::sleep(duration / 3);
        observer.status().resident_bytes
    });
    observer.wait_until(|status| status.queued == 0 && status.generating == 0);
    let end = observer.status().resident_bytes;
    let (answers, cancelled) = (counts.answers.into_inner(), counts.cancelled.into_inner());
    eprintln!(
        "{answers} answers and {cancelled} cancelled in {:.1} s; resident {:.1} MB after a third, {:.1} MB at the end",
        begin.elapsed().as_secs_f64(),
        warm as f64 / 1e6,
        end as f64 / 1e6,
    );
    assert!(answers >= CONNECTIONS && cancelled >= CONNECTIONS / 2, "the storm was none");
    assert!(end < warm + MOST_GROWTH, "resident memory grew from {warm} to {end}");

    observer.wait_until(|status| status.connections == 1);
    let settled = (0..200).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        server.descriptors() <= descriptors && server.threads() <= threads
    });
    let now = (server.descriptors(), server.threads());
    assert!(settled, "descriptors and threads went from {:?} to {now:?}", (descriptors, threads));
    server.expect_idle();
    for (request, expected) in requests.iter().zip(&expected) {
        assert!(comparable(observer.answer(request)) == *expected, "another answer to {request:?}");
    }
}

#[test]
fn work_that_nobody_waits_for_ends_at_once() {
    let mut server = Server::start("cancelled");
    let mut observer = server.connect();
    assert_eq!(observer.ask(&Request::Load { model: generate_model() }), Response::Done);
    let mut slowest = Duration::ZERO;
    for round in 0..5 {
        let mut clients: Vec<Client> = (0..CONNECTIONS).map(|_| server.connect()).collect();
        for (index, client) in clients.iter_mut().enumerate() {
            // More than the slots, each with a prompt of its own; some still read it when they are cancelled.
            let question = format!("{index}: tell a very long story. {}", "The harbour lay quiet. ".repeat(index * 10));
            client.send(&generate(&question, 3000));
        }
        observer.wait_until(|status| status.generating > 0 && status.queued as usize + 8 >= CONNECTIONS / 2);
        std::thread::sleep(Duration::from_millis(37 * round));
        let from = Instant::now();
        drop(clients);
        observer.wait_until(|status| status.queued == 0 && status.generating == 0);
        slowest = slowest.max(from.elapsed());
    }
    eprintln!("{CONNECTIONS} generations were given up in {:.1} ms at most", slowest.as_secs_f64() * 1e3);
    assert!(slowest < CANCEL_LIMIT, "generations went on for {slowest:?}");
    server.expect_idle();
}
