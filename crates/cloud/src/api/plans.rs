//! `/v1/plans`: the hardware on offer.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::api::Shared;
use crate::api::extract::{Asked, Asking, At, Caller, IdempotencyKey, Listed, Name, Page};
use crate::api::once::{Begun, Created, Once};
use crate::api::problem::{Problem, Result};
use crate::store;

/// The longest price label, in characters.
const PRICE: usize = 100;

/// A hardware plan.
#[derive(Debug, Serialize, ToSchema)]
pub struct Plan {
    id: Uuid,
    #[schema(value_type = Name)]
    name: String,
    /// Enclave size in MB.
    enclave_mb: u64,
    /// Processor cores.
    cores: u64,
    /// What it costs, in words.
    price: String,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
}

impl From<store::Plan> for Plan {
    fn from(plan: store::Plan) -> Plan {
        Plan {
            id: plan.id,
            name: plan.name,
            enclave_mb: plan.enclave_mb,
            cores: plan.cores,
            price: plan.price,
            created_at: plan.created_at,
        }
    }
}

/// What makes a plan.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewPlan {
    name: Name,
    /// Enclave size in MB: a power of two.
    #[schema(minimum = 1024, maximum = 65536)]
    enclave_mb: u64,
    /// Processor cores.
    #[schema(minimum = 1, maximum = 1024)]
    cores: u64,
    /// What it costs, in words.
    #[schema(max_length = 100, pattern = "^[^\\x00-\\x1f\\x7f-\\x9f]*$")]
    price: String,
}

/// Offers a plan. Operators only.
#[utoipa::path(post, path = "/v1/plans", tag = "plans", request_body = NewPlan,
    responses((status = 201, body = Plan)))]
pub async fn create_plan(
    caller: Caller,
    State(shared): State<Arc<Shared>>,
    key: IdempotencyKey,
    asked: Asked<NewPlan>,
) -> Result<Response> {
    caller.require_operator()?;
    let new = &asked.value;
    package::fingerprint::check_size(new.enclave_mb)
        .map_err(|error| Problem::invalid(format!("enclave_mb: {error}")))?;
    if !(1..=1024).contains(&new.cores) {
        return Err(Problem::invalid("cores: expected 1 to 1024"));
    }
    if new.price.chars().count() > PRICE || new.price.chars().any(char::is_control) {
        return Err(Problem::invalid(format!("price: expected at most {PRICE} characters on one line")));
    }
    let now = store::now();
    let mut once = match Once::begin(&shared, &caller, &key, &asked.digest, now).await? {
        Begun::Before(created) => return Ok(created.into_response()),
        Begun::Now(once) => once,
    };
    let plan = store::Plan {
        id: Uuid::new_v4(),
        name: new.name.as_str().to_owned(),
        enclave_mb: new.enclave_mb,
        cores: new.cores,
        price: new.price.clone(),
        created_at: now,
    };
    if !once.work.add_plan(&plan).await? {
        return Err(Problem::conflict(format!("a plan named '{}' is on offer", plan.name)));
    }
    let id = plan.id.to_string();
    once.work.note(now, Some(caller.user_id), None, "plan.create", &id, &plan.name).await?;
    once.finish(Created::new(format!("/v1/plans/{id}"), &Plan::from(plan))).await
}

/// The plans on offer.
#[utoipa::path(get, path = "/v1/plans", tag = "plans", params(Page),
    responses((status = 200, body = Listed<Plan>)))]
pub async fn list_plans(
    _: Caller,
    State(shared): State<Arc<Shared>>,
    Asking(page): Asking<Page>,
) -> Result<Json<Listed<Plan>>> {
    let plans = shared.store.plans(&page.after()?, page.fetch()).await?;
    Ok(Json(page.of(plans, |plan| (plan.created_at, plan.id.to_string()), Plan::from)))
}

/// Takes a plan off the offer; apps that have it keep what they were promised. Operators only.
#[utoipa::path(delete, path = "/v1/plans/{plan}", tag = "plans", params(("plan" = Uuid, Path)),
    responses((status = 204)))]
pub async fn retire_plan(
    caller: Caller,
    State(shared): State<Arc<Shared>>,
    At(plan): At<Uuid>,
) -> Result<StatusCode> {
    caller.require_operator()?;
    let now = store::now();
    let mut work = shared.store.begin().await?;
    if !work.retire_plan(plan, now).await? {
        return Err(Problem::not_found());
    }
    work.note(now, Some(caller.user_id), None, "plan.retire", &plan.to_string(), "").await?;
    work.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}
