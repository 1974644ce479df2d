//! A backend without a network, and a client that holds every answer against the API's own description.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt;
use jiff::Timestamp;
use serde_json::{Value, json};
use tower::ServiceExt;
use uuid::Uuid;

use crate::api::problem::MEDIA_TYPE;
use crate::api::{self, Limits, Operator, Shared};
use crate::bearer::Secret;
use crate::blobs::Blobs;
use crate::placement::Room;
use crate::reader::PackageReader;
use crate::store::{self, AppChange, Store};
use crate::testing::nodes::{Machine, Nodes};
use crate::testing::reader::Here;

pub(super) struct Api {
    pub(super) shared: Arc<Shared>,
    pub(super) document: Value,
    pub(super) reader: Arc<Here>,
    pub(super) machine: Arc<Machine>,
    router: Router,
    _data: tempfile::TempDir,
}

/// Somebody with a token.
#[derive(Clone)]
pub(super) struct Somebody {
    pub(super) id: Uuid,
    pub(super) token: String,
}

pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) bytes: Vec<u8>,
}

impl Reply {
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_else(|_| panic!("{}", self.text()))
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// The kind of problem; empty for none.
    pub(super) fn problem(&self) -> String {
        if !self.status.is_client_error() && !self.status.is_server_error() {
            return String::new();
        }
        self.json()["type"].as_str().unwrap().strip_prefix("urn:mse:problem:").unwrap().to_owned()
    }

    pub(super) fn is(self, status: u16) -> Reply {
        assert_eq!(self.status.as_u16(), status, "{}", self.text());
        self
    }
}

impl Api {
    pub(super) async fn new(url: &str, limits: Limits) -> Api {
        let data = tempfile::tempdir().unwrap();
        let store = Store::open(url).await.unwrap();
        let machine = Arc::new(Machine::default());
        let nodes = Nodes { machine: machine.clone(), fuse: store.fuse() };
        let identity = Operator {
            version: "0".to_owned(),
            domain: "apps.localhost".to_owned(),
            router: "127.0.0.1:8443".to_owned(),
            mrsigner: "ab".repeat(32),
            platform: "simulated".to_owned(),
            runtime: "process".to_owned(),
            pccs: None,
            simulated_root: None,
        };
        let blobs = Blobs::open(data.path()).unwrap();
        let capacity = Room { memory_mb: 8192, cores: 8 };
        let reader = Arc::new(Here::default());
        let here: Arc<dyn PackageReader> = reader.clone();
        let shared = Arc::new(Shared::new(store, blobs, Arc::new(nodes), here, identity, capacity, limits));
        let router = api::router(shared.clone());
        let document = serde_json::from_slice(&shared.document).unwrap();
        Api { shared, document, reader, machine, router, _data: data }
    }

    /// A user with a token, made behind the API.
    pub(super) async fn somebody(&self, name: &str, is_operator: bool) -> Somebody {
        let now = Timestamp::now();
        let user = store::User {
            id: Uuid::new_v4(),
            name: name.to_owned(),
            is_operator,
            created_at: now,
            disabled_at: None,
        };
        let secret = Secret::generate().unwrap();
        let token = store::Token {
            id: Uuid::new_v4(),
            user_id: user.id,
            name: "t".to_owned(),
            created_at: now,
            expires_at: None,
        };
        let mut work = self.shared.store.begin().await.unwrap();
        assert!(work.add_user(&user).await.unwrap());
        assert!(work.add_token(&token, &secret.sha256(), 9).await.unwrap());
        work.commit().await.unwrap();
        Somebody { id: user.id, token: secret.reveal().to_owned() }
    }

    /// An app's node, made behind the API.
    pub(super) async fn run_node(&self, app: Uuid) {
        let mut work = self.shared.store.begin().await.unwrap();
        let found = work.app(app).await.unwrap().unwrap();
        let name = self.machine.run(app);
        let change = AppChange { node: Some(name), ..AppChange::of(&found) };
        assert!(work.change_app(app, &change, Timestamp::now()).await.unwrap());
        work.commit().await.unwrap();
    }

    /// An answer whose body is not read yet.
    pub(super) async fn open(&self, who: &Somebody, path: &str) -> Response {
        let request = Request::get(path).header("authorization", format!("Bearer {}", who.token));
        self.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
    }

    pub(super) async fn get(&self, who: &Somebody, path: &str) -> Reply {
        self.ask(who, "GET", path, None, &[]).await
    }

    pub(super) async fn delete(&self, who: &Somebody, path: &str) -> Reply {
        self.ask(who, "DELETE", path, None, &[]).await
    }

    pub(super) async fn post(&self, who: &Somebody, path: &str, body: Value) -> Reply {
        self.ask(who, "POST", path, Some(body), &[]).await
    }

    pub(super) async fn put(&self, who: &Somebody, path: &str, body: Value) -> Reply {
        self.ask(who, "PUT", path, Some(body), &[]).await
    }

    pub(super) async fn ask(
        &self,
        who: &Somebody,
        method: &str,
        path: &str,
        body: Option<Value>,
        headers: &[(&str, &str)],
    ) -> Reply {
        let bearer = format!("Bearer {}", who.token);
        let mut all = vec![("authorization", bearer.as_str())];
        if body.is_some() {
            all.push(("content-type", "application/json"));
        }
        all.extend(headers);
        self.raw(method, path, body.map(|body| body.to_string()).unwrap_or_default(), &all).await
    }

    /// One request as it is; its answer is held against the document.
    pub(super) async fn raw(
        &self,
        method: &str,
        path: &str,
        body: impl Into<Body>,
        headers: &[(&str, &str)],
    ) -> Reply {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self.router.clone().oneshot(request.body(body.into()).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes().to_vec();
        let reply = Reply { status: parts.status, headers: parts.headers, bytes };
        self.check(method, path.split('?').next().unwrap(), &reply);
        reply
    }

    fn check(&self, method: &str, path: &str, reply: &Reply) {
        let what = format!("{method} {path}: {} {}", reply.status, reply.text());
        let media = reply.headers.get("content-type").map(|value| value.to_str().unwrap());
        assert!(reply.headers.contains_key("x-request-id"), "{what}");
        let Some(operation) = self.operation(method, path) else {
            assert_eq!(media, Some(MEDIA_TYPE), "{what}");
            assert!([404, 405].contains(&reply.status.as_u16()), "{what}");
            return self.fits(&json!({"$ref": "#/components/schemas/Problem"}), &reply.json(), &what);
        };
        let responses = &operation["responses"];
        let status = reply.status.as_u16().to_string();
        let response = responses.get(&status).unwrap_or(&responses["default"]);
        if reply.status.is_success() {
            assert!(responses.get(&status).is_some(), "not described: {what}");
        } else {
            assert_eq!(media, Some(MEDIA_TYPE), "{what}");
            assert_eq!(reply.json()["status"], reply.status.as_u16(), "{what}");
        }
        match (&response["content"], media) {
            (Value::Null, _) => assert!(reply.bytes.is_empty(), "not described: {what}"),
            (content, Some(media)) => {
                let described = content.get(media).unwrap_or_else(|| panic!("not described: {media} {what}"));
                if media.ends_with("json") {
                    self.fits(&described["schema"], &reply.json(), &what);
                }
            }
            (_, None) => panic!("no media type: {what}"),
        }
    }

    fn operation(&self, method: &str, path: &str) -> Option<&Value> {
        let paths = self.document["paths"].as_object().unwrap();
        let fits = |template: &str| {
            let (one, other) = (template.split('/'), path.split('/'));
            one.clone().count() == other.clone().count()
                && one.zip(other).all(|(one, other)| one.starts_with('{') || one == other)
        };
        let item = paths.get(path).or_else(|| Some(paths.iter().find(|(template, _)| fits(template))?.1));
        item?.get(method.to_lowercase())
    }

    fn fits(&self, schema: &Value, value: &Value, what: &str) {
        if let Err(error) = self.validate(schema, value) {
            panic!("{error}\nin {what}");
        }
        if let Some(object) = value.as_object()
            && let Some(known) = self.properties(schema)
        {
            let unknown: Vec<_> = object.keys().filter(|name| !known.contains(*name)).collect();
            assert!(unknown.is_empty(), "not described: {unknown:?}\nin {what}");
        }
    }

    fn resolve<'a>(&'a self, schema: &'a Value) -> &'a Value {
        match schema.get("$ref").and_then(Value::as_str) {
            None => schema,
            Some(reference) => {
                let found = self.document.pointer(reference.strip_prefix('#').unwrap());
                self.resolve(found.unwrap_or_else(|| panic!("{reference} leads nowhere")))
            }
        }
    }

    /// What an object may have; `None` for anything.
    fn properties(&self, schema: &Value) -> Option<BTreeSet<String>> {
        let schema = self.resolve(schema);
        let mut all: BTreeSet<String> =
            schema["properties"].as_object().into_iter().flat_map(|all| all.keys().cloned()).collect();
        for part in schema["allOf"].as_array().into_iter().flatten() {
            all.extend(self.properties(part)?);
        }
        (!all.is_empty()).then_some(all)
    }

    /// The part of JSON Schema that the document uses.
    fn validate(&self, schema: &Value, value: &Value) -> Result<(), String> {
        let schema = self.resolve(schema);
        let fail = |why: &str| Err(format!("{value} is not {why}: {schema}"));
        if let Some(all) = schema["allOf"].as_array() {
            for part in all {
                self.validate(part, value)?;
            }
        }
        for word in ["oneOf", "anyOf"] {
            if let Some(some) = schema[word].as_array() {
                let fitting = some.iter().filter(|part| self.validate(part, value).is_ok()).count();
                if fitting == 0 || word == "oneOf" && fitting > 1 {
                    return fail(word);
                }
            }
        }
        if let Some(some) = schema["enum"].as_array()
            && !some.contains(value)
        {
            return fail("among them");
        }
        let types: Vec<&str> = match &schema["type"] {
            Value::String(one) => vec![one],
            Value::Array(some) => some.iter().map(|one| one.as_str().unwrap()).collect(),
            _ => vec![],
        };
        let has = |name: &str| match name {
            "null" => value.is_null(),
            "string" => value.is_string(),
            "boolean" => value.is_boolean(),
            "integer" => value.is_i64() || value.is_u64(),
            "number" => value.is_number(),
            "array" => value.is_array(),
            "object" => value.is_object(),
            other => panic!("unknown type {other}"),
        };
        if !types.is_empty() && !types.iter().any(|name| has(name)) {
            return fail("of the type");
        }
        if let Some(object) = value.as_object() {
            for name in schema["required"].as_array().into_iter().flatten() {
                if !object.contains_key(name.as_str().unwrap()) {
                    return fail("complete");
                }
            }
            for (name, part) in schema["properties"].as_object().into_iter().flatten() {
                if let Some(value) = object.get(name) {
                    self.validate(part, value)?;
                }
            }
        }
        for item in value.as_array().into_iter().flatten() {
            self.validate(&schema["items"], item)?;
        }
        Ok(())
    }
}

/// Every operation of the document.
pub(super) fn operations(document: &Value) -> Vec<(Method, String)> {
    let mut all = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            all.push((method.to_uppercase().parse().unwrap(), path.clone()));
        }
    }
    all
}
