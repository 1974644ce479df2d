use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::JoinHandle;

use super::*;

const HOUR: Duration = Duration::from_secs(3600);
const ROOM: usize = 1000;

/// Lets the relay do all that it can do: it shares the test's one thread and waits for nothing but the test.
async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

/// A relay that runs, and its two ends: the user's and the node's.
struct Running {
    user: DuplexStream,
    node: DuplexStream,
    end: JoinHandle<End>,
    counted: Arc<[Counter; 2]>,
    buffers: Arc<Buffers>,
}

fn start(idle: Duration) -> Running {
    let (user, mut near_user) = duplex(ROOM);
    let (node, mut near_node) = duplex(ROOM);
    let counted: Arc<[Counter; 2]> = Arc::default();
    let buffers = Arc::new(Buffers::new(ROOM));
    let end = tokio::spawn({
        let (counted, buffers) = (counted.clone(), buffers.clone());
        async move {
            let spare = Counter::default();
            let tally = Tally { up: [&counted[0], &spare], down: [&counted[1], &spare] };
            relay(&mut near_user, &mut near_node, &buffers, idle, &tally).await
        }
    });
    Running { user, node, end, counted, buffers }
}

#[tokio::test]
async fn each_way_ends_for_itself() {
    for user_first in [true, false] {
        let mut relay = start(HOUR);
        let (first, second) =
            if user_first { (&mut relay.user, &mut relay.node) } else { (&mut relay.node, &mut relay.user) };
        first.write_all(b"question").await.unwrap();
        first.shutdown().await.unwrap();
        let mut heard = String::new();
        second.read_to_string(&mut heard).await.unwrap();
        assert_eq!(heard, "question");
        assert!(!relay.end.is_finished());
        second.write_all(b"answer").await.unwrap();
        second.shutdown().await.unwrap();
        let mut heard = String::new();
        first.read_to_string(&mut heard).await.unwrap();
        assert_eq!(heard, "answer");
        assert_eq!(relay.end.await.unwrap(), End::Finished);
        let expected = if user_first { [8, 6] } else { [6, 8] };
        assert_eq!([relay.counted[0].get(), relay.counted[1].get()], expected);
    }
}

#[tokio::test]
async fn a_reader_that_does_not_read_holds_its_writer_up() {
    let mut relay = start(HOUR);
    let (mut hearing, mut talking) = tokio::io::split(relay.user);
    let sent = Arc::new(Counter::default());
    let writing = tokio::spawn({
        let sent = sent.clone();
        async move {
            while talking.write_all(&[1; ROOM / 10]).await.is_ok() {
                sent.add(ROOM as u64 / 10);
            }
        }
    });
    settle().await;
    // What lies between the ends: a pipe on each side, and a buffer.
    let most = 3 * ROOM as u64;
    let before = sent.get();
    assert!((most / 3..=most).contains(&before), "{before}");
    let mut taken = vec![0; ROOM];
    relay.node.read_exact(&mut taken).await.unwrap();
    settle().await;
    assert!((before + 1..=most + ROOM as u64).contains(&sent.get()), "{}", sent.get());
    // The other way goes on.
    relay.node.write_all(b"still here").await.unwrap();
    hearing.read_exact(&mut taken[..10]).await.unwrap();
    assert_eq!(&taken[..10], b"still here");
    writing.abort();
}

#[tokio::test]
async fn silence_ends_a_relay_and_bytes_either_way_do_not_let_it() {
    let idle = Duration::from_millis(400);
    // Where the machine itself was silent for that long, nothing is learnt; then it is asked again.
    for _ in 0..20 {
        let mut relay = start(idle);
        let (began, mut last, mut pause) = (Instant::now(), Instant::now(), Duration::ZERO);
        let mut up = false;
        while began.elapsed() < idle * 2 && !relay.end.is_finished() {
            up = !up;
            let (from, to) =
                if up { (&mut relay.user, &mut relay.node) } else { (&mut relay.node, &mut relay.user) };
            if from.write_all(b".").await.is_err() || to.read_u8().await.is_err() {
                break;
            }
            sleep(idle / 40).await;
            pause = pause.max(last.elapsed());
            last = Instant::now();
        }
        if pause > idle / 2 {
            continue;
        }
        assert!(!relay.end.is_finished(), "it ended while something was said");
        let silent = Instant::now();
        assert_eq!(relay.end.await.unwrap(), End::Idle);
        assert!(silent.elapsed() >= idle / 2);
        return;
    }
    panic!("the machine is too busy for this test");
}

#[tokio::test]
async fn a_way_with_nothing_under_way_holds_no_buffer() {
    let mut relay = start(HOUR);
    let free = |relay: &Running| relay.buffers.free.lock().unwrap().len();
    relay.user.write_all(b".").await.unwrap();
    assert_eq!(relay.node.read_u8().await.unwrap(), b'.');
    settle().await;
    assert_eq!(free(&relay), 1, "one was ever needed, and it is free");
    relay.user.write_all(&[1; ROOM]).await.unwrap();
    settle().await;
    relay.user.write_all(&[1; ROOM]).await.unwrap();
    settle().await;
    // Held up, the way up has the first, and the way down looked with a second.
    assert_eq!(free(&relay), 1);
    relay.end.abort();
    let _ = (&mut relay.end).await;
    assert_eq!(free(&relay), 2, "cut off, it gives back what it held");
}

/// An end that says something, and then takes nothing or gives nothing more.
struct Failing {
    says: &'static [u8],
    reading: Option<io::ErrorKind>,
    writing: Option<io::ErrorKind>,
}

impl AsyncRead for Failing {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        space: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let says = std::mem::take(&mut self.says);
        match (says, self.reading) {
            ([], Some(error)) => Poll::Ready(Err(error.into())),
            (says, _) => {
                space.put_slice(says);
                Poll::Ready(Ok(()))
            }
        }
    }
}

impl AsyncWrite for Failing {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(self.writing.map_or(Ok(bytes.len()), |error| Err(error.into())))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

async fn against(mut node: Failing, asks: &[u8]) -> (End, Vec<u8>) {
    let (mut user, mut near_user) = duplex(ROOM);
    user.write_all(asks).await.unwrap();
    let counter = Counter::default();
    let tally = Tally { up: [&counter, &counter], down: [&counter, &counter] };
    let end = relay(&mut near_user, &mut node, &Buffers::new(ROOM), HOUR, &tally).await;
    drop(near_user);
    let mut heard = Vec::new();
    user.read_to_end(&mut heard).await.unwrap();
    (end, heard)
}

#[tokio::test]
async fn an_answer_arrives_though_the_question_was_not_taken() {
    let node = Failing { says: b"too large", reading: None, writing: Some(io::ErrorKind::ConnectionReset) };
    assert_eq!(against(node, b"much").await, (End::Unheard, b"too large".to_vec()));
}

#[tokio::test]
async fn a_break_is_no_end() {
    let node = Failing { says: b"half an ans", reading: Some(io::ErrorKind::ConnectionReset), writing: None };
    assert_eq!(against(node, b"question").await, (End::Broken, b"half an ans".to_vec()));
}
