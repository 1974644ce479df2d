//! What apps occupy. A row of `placements` is made once and freed once.

use std::collections::BTreeSet;

use jiff::Timestamp;
use uuid::Uuid;

use crate::error::Result;
use crate::placement::Room;
use crate::store::{Columns, Store, Work, micros, signed};

/// The one machine there is so far.
pub const MACHINE: &str = "local";

/// A place for an app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Whose it is.
    pub app_id: Uuid,
    /// How much it is.
    pub room: Room,
    /// The port that goes with it.
    pub port: u16,
}

/// What is occupied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// How much, together.
    pub room: Room,
    /// The ports.
    pub ports: BTreeSet<u16>,
}

macro_rules! taken {
    ($connection:expr) => {{
        let rows = sqlx::query(
            "SELECT enclave_mb, cores, port FROM placements WHERE machine = $1 AND freed_at IS NULL",
        )
        .bind(MACHINE)
        .fetch_all($connection)
        .await?;
        let mut taken = Taken::default();
        for row in &rows {
            taken.room.memory_mb += row.natural("enclave_mb")?;
            taken.room.cores += row.natural("cores")?;
            taken.ports.extend(u16::try_from(row.number("port")?).ok());
        }
        Ok(taken)
    }};
}

impl Store {
    /// What is occupied.
    pub async fn taken(&self) -> Result<Taken> {
        taken!(&self.pool)
    }
}

impl Work {
    /// What is occupied, as this transaction sees it.
    pub async fn taken(&mut self) -> Result<Taken> {
        taken!(self.on())
    }

    /// Gives an app a place; false where it has or had one, or the port is held.
    pub async fn occupy(&mut self, place: &Placement, now: Timestamp) -> Result<bool> {
        let done = sqlx::query(
            "INSERT INTO placements (app_id, machine, enclave_mb, cores, port, placed_at) \
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
        )
        .bind(place.app_id.to_string())
        .bind(MACHINE)
        .bind(signed(place.room.memory_mb))
        .bind(signed(place.room.cores))
        .bind(i64::from(place.port))
        .bind(micros(now))
        .execute(self.on())
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Gives an app another port; false where it has no place.
    pub async fn move_to_port(&mut self, app: Uuid, port: u16) -> Result<bool> {
        let done = sqlx::query("UPDATE placements SET port = $1 WHERE app_id = $2 AND freed_at IS NULL")
            .bind(i64::from(port))
            .bind(app.to_string())
            .execute(self.on())
            .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Frees an app's place; false where it has none, so that nothing is freed twice.
    pub async fn free(&mut self, app: Uuid, now: Timestamp) -> Result<bool> {
        let done = sqlx::query("UPDATE placements SET freed_at = $1 WHERE app_id = $2 AND freed_at IS NULL")
            .bind(micros(now))
            .bind(app.to_string())
            .execute(self.on())
            .await?;
        Ok(done.rows_affected() == 1)
    }
}
