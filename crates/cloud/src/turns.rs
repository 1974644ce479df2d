//! Turns at work that is started by a request and costs much: packages read, files put together, logs read.
//!
//! A turn belongs to the work, not to the request: it moves into the task that does the work, and a client that hangs
//! up frees nothing. Of all turns one user, and one project, has at most one at a time; what they ask for beyond that
//! waits behind their own, and so many may wait and no more. Whoever has no turn yet waits at most for one piece of
//! work of each of the others, in the order of asking.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use uuid::Uuid;

use crate::api::limits::{Place, Places};

/// Work of one user, or of one project, that is under way or waits.
pub const ASKED: usize = 8;

/// One kind of work.
pub struct Turns {
    all: Arc<Semaphore>,
    own: Mutex<HashMap<Uuid, Weak<Semaphore>>>,
    asked: Places<Uuid>,
}

/// A turn; dropping it gives it back.
pub struct Turn {
    _all: OwnedSemaphorePermit,
    _own: Vec<OwnedSemaphorePermit>,
    _asked: Vec<Place<Uuid>>,
}

impl Turns {
    /// So many pieces of work at once.
    pub fn new(at_once: usize) -> Turns {
        Turns { all: Arc::new(Semaphore::new(at_once)), own: Mutex::default(), asked: Places::default() }
    }

    /// Waits for a turn of `user` in `project`; `None` at once where too much of either waits already.
    pub async fn take(&self, user: Uuid, project: Uuid) -> Option<Turn> {
        let asked = [user, project].map(|who| self.asked.enter(who, ASKED));
        let asked = asked.into_iter().collect::<Option<Vec<_>>>()?;
        self.wait(&[user, project], asked).await
    }

    /// The same, however much waits: for work whose amount is bounded by other means. Never `None`.
    pub async fn take_patiently(&self, user: Uuid, project: Uuid) -> Option<Turn> {
        self.wait(&[user, project], Vec::new()).await
    }

    /// First the own turns, users' before projects': who waits for one of these keeps none of all.
    async fn wait(&self, who: &[Uuid], asked: Vec<Place<Uuid>>) -> Option<Turn> {
        let mut own = Vec::new();
        for who in who {
            own.push(self.own(*who).acquire_owned().await.ok()?);
        }
        let all = self.all.clone().acquire_owned().await.ok()?;
        Some(Turn { _all: all, _own: own, _asked: asked })
    }

    /// How much of somebody's is under way or waits.
    #[cfg(test)]
    pub(crate) fn asked(&self, who: Uuid) -> usize {
        self.asked.held(who)
    }

    fn own(&self, who: Uuid) -> Arc<Semaphore> {
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = own.get(&who).and_then(Weak::upgrade) {
            return found;
        }
        own.retain(|_, turns| turns.strong_count() > 0);
        let new = Arc::new(Semaphore::new(1));
        own.insert(who, Arc::downgrade(&new));
        new
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn now<T>(future: impl Future<Output = T>) -> Poll<T> {
        pin!(future).poll(&mut Context::from_waker(Waker::noop()))
    }

    fn turn(turns: &Turns, user: Uuid, project: Uuid) -> Turn {
        match now(turns.take(user, project)) {
            Poll::Ready(Some(turn)) => turn,
            _ => panic!("it waits"),
        }
    }

    #[test]
    fn one_user_has_one_turn_in_however_many_projects() {
        let turns = Turns::new(2);
        let [ada, bob, one, two, of_bob] = [(); 5].map(|()| Uuid::new_v4());
        let held = turn(&turns, ada, one);
        assert!(now(turns.take(ada, two)).is_pending());
        assert!(now(turns.take(bob, one)).is_pending(), "nor has one project with however many users");
        let other = turn(&turns, bob, of_bob);
        assert!(now(turns.take(Uuid::new_v4(), Uuid::new_v4())).is_pending(), "there are two in all");
        drop(held);
        drop(turn(&turns, ada, two));
        drop(other);
        assert!(turns.asked.is_empty(), "who has given up is not counted");
        drop(turn(&turns, ada, two));
        assert!(turns.own.lock().unwrap().len() <= 2, "nobody is remembered for nothing");
    }

    #[test]
    fn so_much_of_one_waits_and_no_more() {
        let turns = Turns::new(2);
        let (ada, project) = (Uuid::new_v4(), Uuid::new_v4());
        let held = turn(&turns, ada, project);
        let mut waiting: Vec<_> = (1..ASKED).map(|_| Box::pin(turns.take(ada, project))).collect();
        let mut context = Context::from_waker(Waker::noop());
        assert!(waiting.iter_mut().all(|one| one.as_mut().poll(&mut context).is_pending()));
        assert!(matches!(now(turns.take(ada, Uuid::new_v4())), Poll::Ready(None)));
        assert!(matches!(now(turns.take(Uuid::new_v4(), project)), Poll::Ready(None)));
        drop(turn(&turns, Uuid::new_v4(), Uuid::new_v4()));
        drop((held, waiting));
        turn(&turns, ada, project);
    }

    /// Somebody with one turn who asks for more must not stand before others in the queue for all.
    #[test]
    fn who_waits_for_an_own_turn_keeps_nobody_else_out() {
        let turns = Turns::new(2);
        let (ada, project) = (Uuid::new_v4(), Uuid::new_v4());
        let _held = turn(&turns, ada, project);
        let mut waiting: Vec<_> = (0..3).map(|_| Box::pin(turns.take(ada, project))).collect();
        let mut context = Context::from_waker(Waker::noop());
        assert!(waiting.iter_mut().all(|one| one.as_mut().poll(&mut context).is_pending()));
        turn(&turns, Uuid::new_v4(), Uuid::new_v4());
    }
}
