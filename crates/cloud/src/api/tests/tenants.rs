//! No one learns of another's things: what is another's is answered, byte for byte, as what does not exist.

use super::*;

#[test]
fn anothers_is_answered_as_nothing() {
    on_each(|url| async move {
        let api = Api::new(&url, Limits::default()).await;
        let root = api.somebody("root", true).await;
        let (ada, bob) = (api.somebody("ada", false).await, api.somebody("bob", false).await);
        plan(&api, &root, "small", 1024).await;
        let project = project(&api, &ada, "p").await;
        let package = package(&api, &ada, &project).await;
        let wanted = json!({"name": "web", "plan": "small", "package": package});
        let app =
            api.post(&ada, &format!("/v1/projects/{project}/apps"), wanted.clone()).await.is(201).json();
        let app = app["id"].as_str().unwrap().to_owned();
        let token = api.post(&ada, "/v1/tokens", json!({"name": "x"})).await.is(201).json();
        let token = token["id"].as_str().unwrap();
        let nobody = Uuid::new_v4().to_string();

        let size = json!({"size": PACKAGE.len()});
        let requests: Vec<(&str, String, Option<Value>)> = vec![
            ("GET", format!("/v1/projects/{project}"), None),
            ("DELETE", format!("/v1/projects/{project}"), None),
            ("GET", format!("/v1/projects/{project}/members"), None),
            ("PUT", format!("/v1/projects/{project}/members/{}", bob.id), Some(json!({"role": "owner"}))),
            ("DELETE", format!("/v1/projects/{project}/members/{}", bob.id), None),
            ("DELETE", format!("/v1/projects/{project}/members/{}", ada.id), None),
            ("GET", format!("/v1/projects/{project}/audit"), None),
            ("GET", format!("/v1/projects/{project}/uploads"), None),
            ("GET", format!("/v1/projects/{project}/uploads/{package}"), None),
            ("PUT", format!("/v1/projects/{project}/uploads/{package}"), Some(size)),
            ("PATCH", format!("/v1/projects/{project}/uploads/{package}"), Some(json!({}))),
            ("DELETE", format!("/v1/projects/{project}/uploads/{package}"), None),
            (
                "POST",
                format!("/v1/projects/{project}/uploads/{package}/assemble"),
                Some(json!({"parts": [{"sha256": package, "size": PACKAGE.len()}]})),
            ),
            ("GET", format!("/v1/projects/{project}/apps"), None),
            ("POST", format!("/v1/projects/{project}/apps"), Some(wanted.clone())),
            ("GET", format!("/v1/apps/{app}"), None),
            ("GET", format!("/v1/apps/{app}/logs"), None),
            ("POST", format!("/v1/apps/{app}/stop"), None),
            ("GET", format!("/v1/users/{}", ada.id), None),
            ("DELETE", format!("/v1/tokens/{token}"), None),
        ];
        let covered: Vec<_> = requests.iter().map(|(method, path, _)| (*method, path.clone())).collect();
        for (method, path, body) in requests {
            let theirs = api.ask(&bob, method, &path, body.clone(), &[]).await.is(404);
            let mut absent = path.clone();
            for id in [&project, &app, &ada.id.to_string(), &token.to_owned()] {
                absent = absent.replace(id.as_str(), &nobody);
            }
            let none = api.ask(&bob, method, &absent, body, &[]).await.is(404);
            assert_eq!(theirs.bytes, none.bytes, "{method} {path}");
            let names = |reply: &harness::Reply| {
                let mut names: Vec<_> = reply.headers.keys().map(|name| name.to_string()).collect();
                names.sort();
                names
            };
            assert_eq!(names(&theirs), names(&none), "{method} {path}");
        }
        // Every operation on something in particular was among them, but for what operators alone may do.
        let operators = ["/v1/plans/{plan}", "/v1/users/{user}/tokens", "/v1/projects/{project}/quota"];
        for (method, template) in operations(&api.document) {
            let alone = operators.contains(&template.as_str())
                || (method.as_str(), template.as_str()) == ("DELETE", "/v1/users/{user}");
            if !template.contains('{') || alone {
                continue;
            }
            let fits = |path: &str| {
                template.split('/').count() == path.split('/').count()
                    && template.split('/').zip(path.split('/')).all(|(t, p)| t.starts_with('{') || t == p)
            };
            let found = covered.iter().any(|(verb, path)| *verb == method.as_str() && fits(path));
            assert!(found, "not tried: {method} {template}");
        }

        // Nothing of it happened.
        let seen = api.get(&ada, &format!("/v1/apps/{app}")).await.is(200).json();
        assert_eq!(seen["wanted"], "running");
        assert_eq!(api.get(&bob, "/v1/projects").await.is(200).json()["items"], json!([]));
        // The same name and the same bytes are anybody's to use.
        let own = super::project(&api, &bob, "p").await;
        let path = format!("/v1/projects/{own}/uploads/{package}");
        assert_eq!(api.put(&bob, &path, json!({"size": PACKAGE.len()})).await.is(201).json()["received"], 0);
        let reply = api.post(&bob, &format!("/v1/projects/{own}/apps"), wanted).await.is(422);
        assert!(reply.text().contains("a complete upload of this project"));
    });
}

#[test]
fn members_work_and_owners_decide() {
    on_each(|url| async move {
        let api = Api::new(&url, Limits::default()).await;
        let (ada, bob) = (api.somebody("ada", false).await, api.somebody("bob", false).await);
        let project = project(&api, &ada, "p").await;
        let member = |who: &Somebody| format!("/v1/projects/{project}/members/{}", who.id);
        let role = |role: &str| json!({"role": role});
        api.put(&ada, &member(&bob), role("member")).await.is(204);
        assert_eq!(api.get(&bob, &format!("/v1/projects/{project}")).await.is(200).json()["role"], "member");
        package(&api, &bob, &project).await;
        // A member neither raises itself nor removes others, nor ends the project.
        api.put(&bob, &member(&bob), role("owner")).await.is(403);
        api.delete(&bob, &member(&ada)).await.is(403);
        api.delete(&bob, &format!("/v1/projects/{project}")).await.is(403);
        // The last owner stays one.
        api.put(&ada, &member(&ada), role("member")).await.is(409);
        api.delete(&ada, &member(&ada)).await.is(409);
        api.put(&ada, &member(&bob), role("owner")).await.is(204);
        api.put(&bob, &member(&ada), role("member")).await.is(204);
        api.delete(&ada, &member(&ada)).await.is(204);
        api.get(&ada, &format!("/v1/projects/{project}")).await.is(404);
        let members = api.get(&bob, &format!("/v1/projects/{project}/members")).await.is(200).json();
        assert_eq!(members["items"].as_array().unwrap().len(), 1);
        api.put(&bob, &member(&Somebody { id: Uuid::new_v4(), token: String::new() }), role("member"))
            .await
            .is(404);
        api.delete(&bob, &format!("/v1/projects/{project}")).await.is(204);
    });
}
