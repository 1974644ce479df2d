use tokio::io::duplex;

use super::*;

/// Long enough for a few bytes, short enough to wait for.
const DEADLINE: Duration = Duration::from_millis(200);

#[tokio::test]
async fn the_deadline_counts_from_the_beginning_and_not_from_the_last_byte() {
    let (mut user, mut stream) = duplex(64);
    let began = Instant::now();
    // A record that is announced to be long, byte after byte, without end.
    let dripping = tokio::spawn(async move {
        user.write_all(&[22, 3, 1, 0x40, 0, 1, 0, 0x3f, 0xfc]).await.unwrap();
        while user.write_all(&[0]).await.is_ok() {
            sleep(DEADLINE / 100).await;
        }
    });
    let mut reader = HelloReader::new();
    let read = timeout(DEADLINE * 100, read_hello(&mut stream, &mut reader, began + DEADLINE)).await;
    assert_eq!(read, Ok(Err(Refusal::TooSlow)));
    assert!(began.elapsed() >= DEADLINE);
    assert!(reader.received().len() > 9 && !dripping.is_finished());
    dripping.abort();
}

#[tokio::test]
async fn silence_and_hanging_up_are_told_apart() {
    let (user, mut stream) = duplex(64);
    let deadline = Instant::now() + DEADLINE;
    assert_eq!(read_hello(&mut stream, &mut HelloReader::new(), deadline).await, Err(Refusal::TooSlow));
    drop(user);
    let far = Instant::now() + DEADLINE * 100;
    assert_eq!(read_hello(&mut stream, &mut HelloReader::new(), far).await, Err(Refusal::HungUp));
}

#[tokio::test]
async fn a_user_who_goes_on_talking_is_not_listened_to_for_ever() {
    let (user, mut stream) = duplex(64);
    let (mut hearing, mut talking) = tokio::io::split(user);
    let began = Instant::now();
    let talk = tokio::spawn(async move {
        while talking.write_all(b"more").await.is_ok() {
            sleep(LINGER / 100).await;
        }
    });
    dismiss(&mut stream, b"go away").await;
    assert!(began.elapsed() >= LINGER);
    drop(stream);
    let mut heard = String::new();
    hearing.read_to_string(&mut heard).await.unwrap();
    assert_eq!(heard, "go away");
    talk.await.unwrap();
}

#[tokio::test]
async fn what_was_taken_is_replayed_before_what_comes() {
    let (mut user, stream) = duplex(64);
    let mut replay = Replay { received: b"hello".to_vec(), replayed: 0, stream };
    user.write_all(b", router").await.unwrap();
    let mut heard = [0; 13];
    replay.read_exact(&mut heard[..2]).await.unwrap();
    replay.read_exact(&mut heard[2..]).await.unwrap();
    assert_eq!(&heard, b"hello, router");
    replay.write_all(b"hello, user").await.unwrap();
    let mut heard = [0; 11];
    user.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"hello, user");
}
