//! The API's description, OpenAPI 3.1: made of the handlers themselves, and completed here by what is the same for
//! all of them.

use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    Content, InfoBuilder, OpenApi, OpenApiBuilder, Ref, RefOr, Response, ResponseBuilder, path::PathItem,
};
use utoipa::{PartialSchema, ToSchema};

use super::problem::{MEDIA_TYPE, Problem};

const BEARER: &str = "bearer";

/// The document without its paths.
pub(crate) fn head() -> OpenApi {
    OpenApiBuilder::new()
        .info(
            InfoBuilder::new()
                .title("mse-cloud")
                .version(env!("CARGO_PKG_VERSION"))
                .description(Some(
                    "Runs packages in enclaves for those who do not trust it. What it says of an app is its \
                     operator's word: verify the app itself.",
                ))
                .build(),
        )
        .security(Some([SecurityRequirement::new(BEARER, [] as [&str; 0])]))
        .build()
}

/// The whole document as JSON.
pub(crate) fn text() -> String {
    let (_, mut api) = super::routes().split_for_parts();
    let components = api.components.get_or_insert_default();
    let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("mse_").build();
    components.add_security_scheme(BEARER, SecurityScheme::Http(scheme));
    components.schemas.insert(Problem::name().into_owned(), Problem::schema());
    for item in api.paths.paths.values_mut() {
        for operation in operations(item) {
            complete(operation);
        }
    }
    api.to_json().unwrap_or_default()
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut item.get, &mut item.put, &mut item.post, &mut item.delete, &mut item.patch]
        .into_iter()
        .filter_map(Option::as_mut)
}

/// Adds the problems that can come of anything.
fn complete(operation: &mut Operation) {
    let open = operation.security.is_some();
    let mut add = |status: &str, what: &str| {
        let responses = &mut operation.responses.responses;
        responses.entry(status.to_owned()).or_insert_with(|| RefOr::T(problem(what)));
    };
    if !open {
        add("401", "No token that holds.");
        add("429", "Too many requests; Retry-After says when the next may come.");
    }
    add("default", "Not done, and why.");
}

fn problem(what: &str) -> Response {
    let schema = Ref::from_schema_name(Problem::name());
    ResponseBuilder::new().description(what).content(MEDIA_TYPE, Content::new(Some(schema))).build()
}
