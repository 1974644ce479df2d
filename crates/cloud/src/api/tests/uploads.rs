//! Uploads: in pieces, broken off, wrong, too much, two at once.

use axum::body::Body;
use futures_util::stream;

use super::harness::Reply;
use super::*;
use crate::bearer::sha256;

pub(super) async fn append(api: &Api, who: &Somebody, path: &str, offset: u64, bytes: &[u8]) -> Reply {
    piece(api, who, path, &offset.to_string(), Body::from(bytes.to_vec())).await
}

async fn piece(api: &Api, who: &Somebody, path: &str, offset: &str, body: Body) -> Reply {
    let bearer = format!("Bearer {}", who.token);
    let headers = [
        ("authorization", bearer.as_str()),
        ("content-type", "application/offset+octet-stream"),
        ("upload-offset", offset),
    ];
    api.raw("PATCH", path, body, &headers).await
}

#[test]
fn a_broken_upload_goes_on_where_it_was() {
    on_each(|url| async move {
        let api = Api::new(&url, Limits::default()).await;
        let ada = api.somebody("ada", false).await;
        let project = project(&api, &ada, "p").await;
        let bytes: Vec<u8> = (0..200_000u32).map(|n| n as u8).collect();
        let path = format!("/v1/projects/{project}/uploads/{}", sha256(&bytes));
        append(&api, &ada, &path, 0, &bytes).await.is(404);
        let made = api.put(&ada, &path, json!({"size": bytes.len()})).await.is(201).json();
        assert_eq!((&made["received"], &made["complete"]), (&json!(0), &json!(false)));
        assert_eq!(api.put(&ada, &path, json!({"size": bytes.len()})).await.is(200).json(), made);
        api.put(&ada, &path, json!({"size": 1})).await.is(409);

        assert_eq!(append(&api, &ada, &path, 0, &bytes[..1000]).await.is(200).json()["received"], 1000);
        let reply = append(&api, &ada, &path, 0, &bytes[..1000]).await.is(409);
        assert!(reply.text().contains("1000"), "{}", reply.text());
        // The connection ends in the midst: what had come counts.
        let parts = vec![Ok(bytes[1000..5000].to_vec()), Err(std::io::Error::other("gone"))];
        piece(&api, &ada, &path, "1000", Body::from_stream(stream::iter(parts))).await.is(400);
        assert_eq!(api.get(&ada, &path).await.is(200).json()["received"], 5000);
        // More than was announced: nothing of the last piece is taken for good.
        let more = [&bytes[5000..], b"x"].concat();
        append(&api, &ada, &path, 5000, &more).await.is(422);
        for bad in ["-1", "x", "", "5000.0", "99999999999999999999"] {
            piece(&api, &ada, &path, bad, Body::empty()).await.is(400);
        }
        let done = append(&api, &ada, &path, 5000, &bytes[5000..]).await.is(200).json();
        assert_eq!((&done["received"], &done["complete"]), (&json!(bytes.len()), &json!(true)));
        append(&api, &ada, &path, 200_000, b"").await.is(409);
        let file = api.shared.blobs.path(project.parse().unwrap(), &sha256(&bytes));
        assert_eq!(std::fs::read(&file).unwrap(), bytes);
        api.delete(&ada, &path).await.is(204);
        api.delete(&ada, &path).await.is(404);
        assert!(!file.exists());
    });
}

#[test]
fn other_bytes_than_announced_are_thrown_away() {
    on_each(|url| async move {
        let api = Api::new(&url, Limits::default()).await;
        let ada = api.somebody("ada", false).await;
        let project = project(&api, &ada, "p").await;
        let path = format!("/v1/projects/{project}/uploads/{}", sha256(b"right"));
        api.put(&ada, &path, json!({"size": 5})).await.is(201);
        let reply = append(&api, &ada, &path, 0, b"wrong").await.is(422);
        assert!(reply.text().contains(&sha256(b"wrong")));
        api.get(&ada, &path).await.is(404);
        api.put(&ada, &path, json!({"size": 5})).await.is(201);
        assert_eq!(append(&api, &ada, &path, 0, b"right").await.is(200).json()["complete"], true);
    });
}

#[test]
fn what_is_no_piece_is_refused() {
    on_each(|url| async move {
        let api = Api::new(&url, Limits { upload_bytes: 1000, ..Limits::default() }).await;
        let ada = api.somebody("ada", false).await;
        let project = project(&api, &ada, "p").await;
        let path = |name: &str| format!("/v1/projects/{project}/uploads/{name}");
        for name in ["x", "..", &"A".repeat(64), &"0".repeat(65)] {
            api.put(&ada, &path(name), json!({"size": 1})).await.is(404);
        }
        let good = path(&sha256(b"right"));
        for size in [json!(0), json!(1001), json!(-1), json!(1.5), json!("1"), Value::Null] {
            api.put(&ada, &good, json!({"size": size})).await.is(422);
        }
        api.put(&ada, &good, json!({"size": 1000})).await.is(201);
        let bearer = format!("Bearer {}", ada.token);
        let auth = ("authorization", bearer.as_str());
        api.raw("PATCH", &good, "x", &[auth, ("upload-offset", "0")]).await.is(415);
        let media = ("content-type", "application/offset+octet-stream");
        api.raw("PATCH", &good, "x", &[auth, media]).await.is(400);
    });
}

#[test]
fn of_two_pieces_at_once_one_is_taken() {
    on_each(|url| async move {
        let api = Api::new(&url, Limits::default()).await;
        let ada = api.somebody("ada", false).await;
        let project = project(&api, &ada, "p").await;
        let bytes = vec![7; 100_000];
        let path = format!("/v1/projects/{project}/uploads/{}", sha256(&bytes));
        api.put(&ada, &path, json!({"size": bytes.len()})).await.is(201);
        let replies =
            futures_util::future::join_all((0..6).map(|_| append(&api, &ada, &path, 0, &bytes))).await;
        let taken = replies.iter().filter(|reply| reply.status == 200).count();
        assert_eq!(taken, 1);
        assert!(replies.iter().all(|reply| [200, 409].contains(&reply.status.as_u16())));
        assert_eq!(api.get(&ada, &path).await.is(200).json()["complete"], true);
    });
}

#[test]
fn a_whole_is_made_of_parts_that_are_there() {
    on_each(|url| async move {
        let limits = Limits { upload_bytes: 1000, ..Limits::default() };
        let api = Api::new(&url, limits).await;
        let ada = api.somebody("ada", false).await;
        let project = project(&api, &ada, "p").await;
        let place = |bytes: &[u8]| format!("/v1/projects/{project}/uploads/{}", sha256(bytes));
        let (one, two): (&[u8], &[u8]) = (b"a layer, ", b"and code");
        let whole = [one, two, one].concat();
        let part = |bytes: &[u8]| json!({"sha256": sha256(bytes), "size": bytes.len()});
        let parts = json!({"parts": [part(one), part(two), part(one)]});
        let assemble = format!("{}/assemble", place(&whole));
        let reply = api.post(&ada, &assemble, parts.clone()).await.is(409);
        assert!(reply.text().contains(&sha256(one)), "it says what is missing: {}", reply.text());
        for bytes in [one, two] {
            api.put(&ada, &place(bytes), json!({"size": bytes.len()})).await.is(201);
            append(&api, &ada, &place(bytes), 0, bytes).await.is(200);
        }
        let made = api.post(&ada, &assemble, parts.clone()).await.is(201).json();
        assert_eq!((&made["complete"], &made["size"]), (&json!(true), &json!(whole.len())));
        let file = api.shared.blobs.path(project.parse().unwrap(), &sha256(&whole));
        assert_eq!(std::fs::read(file).unwrap(), whole);
        assert_eq!(api.post(&ada, &assemble, parts).await.is(200).json(), made, "it is there already");

        // The digest decides, and what it refuses leaves nothing.
        let other = format!("{}/assemble", place(b"something else"));
        let reply = api.post(&ada, &other, json!({"parts": [part(one)]})).await.is(422);
        assert!(reply.text().contains("SHA-256"), "{}", reply.text());
        api.get(&ada, &place(b"something else")).await.is(404);

        let wrong_size = json!({"parts": [{"sha256": sha256(one), "size": one.len() + 1}]});
        api.post(&ada, &other, wrong_size).await.is(409);
        for bad in [
            json!({"parts": []}),
            json!({"parts": [{"sha256": sha256(one), "size": 0}]}),
            json!({"parts": [{"sha256": sha256(one), "size": 1001}]}),
            json!({"parts": [{"sha256": sha256(one), "size": u64::MAX}, part(two)]}),
            json!({"parts": vec![part(one); 1001]}),
        ] {
            api.post(&ada, &other, bad).await.is(422);
        }

        // Another project has none of these parts, whatever their digest.
        let eve = api.somebody("eve", false).await;
        let theirs = super::project(&api, &eve, "q").await;
        let theirs = format!("/v1/projects/{theirs}/uploads/{}/assemble", sha256(one));
        api.post(&eve, &theirs, json!({"parts": [part(one)]})).await.is(409);
        api.post(&eve, &assemble, json!({"parts": [part(one)]})).await.is(404);
    });
}

#[test]
fn what_nothing_needs_any_more_goes() {
    on_each(|url| async move {
        let api = Api::new(&url, Limits::default()).await;
        let (root, ada) = (api.somebody("root", true).await, api.somebody("ada", false).await);
        plan(&api, &root, "small", 1024).await;
        let project = project(&api, &ada, "p").await;
        let used = package(&api, &ada, &project).await;
        let place = |digest: &str| format!("/v1/projects/{project}/uploads/{digest}");
        let whole = sha256(b"unused");
        api.put(&ada, &place(&whole), json!({"size": 6})).await.is(201);
        append(&api, &ada, &place(&whole), 0, b"unused").await.is(200);
        let begun = sha256(b"half of it");
        api.put(&ada, &place(&begun), json!({"size": 10})).await.is(201);
        append(&api, &ada, &place(&begun), 0, b"half").await.is(200);
        let order = json!({"name": "web", "plan": "small", "package": used});
        let app = api.post(&ada, &format!("/v1/projects/{project}/apps"), order).await.is(201).json();

        let (blobs, store) = (&api.shared.blobs, &api.shared.store);
        let later = jiff::SignedDuration::from_secs(1);
        assert_eq!(blobs.expire(store, crate::store::now() - later).await.unwrap(), 0, "all of it is new");
        // What is being received is left alone.
        let id = project.parse().unwrap();
        let held = blobs.lock(id, &begun).unwrap().unwrap();
        assert_eq!(blobs.expire(store, crate::store::now() + later).await.unwrap(), 1);
        drop(held);
        api.get(&ada, &place(&whole)).await.is(404);
        assert!(!blobs.path(id, &whole).exists());
        api.get(&ada, &place(&begun)).await.is(200);
        assert_eq!(blobs.expire(store, crate::store::now() + later).await.unwrap(), 1);
        api.get(&ada, &place(&begun)).await.is(404);
        // What an app lives of stays, and for as long again after its end.
        api.get(&ada, &place(&used)).await.is(200);
        let mut work = store.begin().await.unwrap();
        let app = app["id"].as_str().unwrap().parse().unwrap();
        work.want_stopped(app).await.unwrap();
        assert!(work.finish_app(app, "stopped", crate::store::now()).await.unwrap());
        work.commit().await.unwrap();
        assert_eq!(blobs.expire(store, crate::store::now() - later).await.unwrap(), 0);
        assert_eq!(blobs.expire(store, crate::store::now() + later).await.unwrap(), 1);
        api.get(&ada, &place(&used)).await.is(404);
        let log = api.get(&ada, &format!("/v1/projects/{project}/audit?limit=100")).await.is(200).text();
        assert_eq!(log.matches("upload.expire").count(), 3, "{log}");
    });
}

#[test]
fn an_upload_whose_file_is_gone_has_to_come_again() {
    on_each(|url| async move {
        let api = Api::new(&url, Limits::default()).await;
        let ada = api.somebody("ada", false).await;
        let project = project(&api, &ada, "p").await;
        let kept = sha256(b"kept");
        let lost = sha256(b"lost");
        for bytes in [b"kept", b"lost"] {
            let path = format!("/v1/projects/{project}/uploads/{}", sha256(bytes));
            api.put(&ada, &path, json!({"size": 4})).await.is(201);
            append(&api, &ada, &path, 0, bytes).await.is(200);
        }
        let blobs = &api.shared.blobs;
        std::fs::remove_file(blobs.path(project.parse().unwrap(), &lost)).unwrap();
        blobs.sweep(&api.shared.store).await.unwrap();
        api.get(&ada, &format!("/v1/projects/{project}/uploads/{lost}")).await.is(404);
        api.get(&ada, &format!("/v1/projects/{project}/uploads/{kept}")).await.is(200);
    });
}
