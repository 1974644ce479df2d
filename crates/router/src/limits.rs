//! Who may come in: places that are given back however a connection ends.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use crate::metrics::{Gauge, Metrics};
use crate::refusal::Refusal;
use crate::server::Settings;
use crate::table::App;

/// One of the places that a gauge counts; dropping it gives it back.
pub(crate) struct Place<T: AsRef<Gauge>>(T);

impl<T: AsRef<Gauge>> Place<T> {
    fn take(of: T, limit: usize) -> Option<Place<T>> {
        of.as_ref().rise_to(limit).then(|| Place(of))
    }
}

impl<T: AsRef<Gauge>> Drop for Place<T> {
    fn drop(&mut self) {
        self.0.as_ref().fall();
    }
}

/// A connection's place in the router.
pub(crate) struct Open(Arc<Metrics>);

impl AsRef<Gauge> for Open {
    fn as_ref(&self) -> &Gauge {
        &self.0.open
    }
}

/// A connection's place among those that have not finished their hello.
pub(crate) struct Pending(Arc<Metrics>);

impl AsRef<Gauge> for Pending {
    fn as_ref(&self) -> &Gauge {
        &self.0.hellos
    }
}

/// A connection's place at its application.
pub(crate) fn at_app(app: Arc<App>, settings: &Settings) -> Result<Place<Arc<App>>, Refusal> {
    Place::take(app, settings.connections_per_app).ok_or(Refusal::AppBusy)
}

/// The places before an application is known.
pub(crate) struct Door {
    metrics: Arc<Metrics>,
    /// How many hellos each address has unfinished.
    callers: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// What a connection holds while its hello is read.
pub(crate) struct Caller {
    _pending: Place<Pending>,
    address: IpAddr,
    callers: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

impl Door {
    pub(crate) fn new(metrics: Arc<Metrics>) -> Door {
        Door { metrics, callers: Arc::default() }
    }

    /// Lets a connection in.
    pub(crate) fn enter(
        &self,
        address: IpAddr,
        settings: &Settings,
    ) -> Result<(Place<Open>, Caller), Refusal> {
        let open = Place::take(Open(self.metrics.clone()), settings.connections).ok_or(Refusal::Busy)?;
        let pending =
            Place::take(Pending(self.metrics.clone()), settings.hellos).ok_or(Refusal::HellosBusy)?;
        let address = network(address);
        let mut callers = self.callers.lock().unwrap_or_else(PoisonError::into_inner);
        let calls = callers.entry(address).or_default();
        if *calls >= settings.hellos_per_address {
            return Err(Refusal::HellosBusy);
        }
        *calls += 1;
        drop(callers);
        Ok((open, Caller { _pending: pending, address, callers: self.callers.clone() }))
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        let mut callers = self.callers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(calls) = callers.get_mut(&self.address) {
            *calls -= 1;
            if *calls == 0 {
                callers.remove(&self.address);
            }
        }
    }
}

/// One caller: an IPv4 address, or an IPv6 network of 64 bits, which is the least that one household gets.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
        address => address,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn places_are_given_back() {
        let metrics = Arc::new(Metrics::default());
        let door = Door::new(metrics.clone());
        let settings = Settings { connections: 2, hellos: 2, hellos_per_address: 1, ..Settings::default() };
        let first = door.enter(address("192.0.2.1"), &settings).ok().unwrap();
        let again = door.enter(address("::ffff:192.0.2.1"), &settings).err();
        assert_eq!(again, Some(Refusal::HellosBusy), "the same caller in another dress");
        let second = door.enter(address("2001:db8::1"), &settings).ok().unwrap();
        assert_eq!(door.enter(address("192.0.2.3"), &settings).err(), Some(Refusal::Busy));
        assert_eq!((metrics.open.get(), metrics.hellos.get()), (2, 2));

        let (open, caller) = second;
        drop(caller);
        drop(open);
        assert_eq!((metrics.open.get(), metrics.hellos.get()), (1, 1));
        let (_open, _caller) = door.enter(address("2001:db8::2"), &settings).ok().unwrap();
        drop(first);
        let same_network = door.enter(address("2001:db8::3"), &settings).err();
        assert_eq!(same_network, Some(Refusal::HellosBusy));
        assert_eq!((metrics.open.get(), metrics.hellos.get()), (1, 1));
        assert_eq!(door.callers.lock().unwrap().len(), 1, "callers who left are forgotten");
    }

    #[test]
    fn hellos_are_limited_apart_from_connections() {
        let metrics = Arc::new(Metrics::default());
        let door = Door::new(metrics.clone());
        let settings = Settings { connections: 9, hellos: 1, hellos_per_address: 9, ..Settings::default() };
        let (_open, caller) = door.enter(address("192.0.2.1"), &settings).ok().unwrap();
        assert_eq!(door.enter(address("192.0.2.2"), &settings).err(), Some(Refusal::HellosBusy));
        drop(caller);
        assert!(door.enter(address("192.0.2.2"), &settings).is_ok());
    }
}
