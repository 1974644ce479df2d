//! `mse home localtest`: the parts of a project wherever they are, and what the tests say.

use std::fs;

use crate::installation::Installation;

#[test]
fn the_parts_of_a_project_may_lie_apart() {
    let person = Installation::new();
    person.run("home scaffold example", 0);
    let config = fs::read_to_string(person.path("example/mse.toml")).unwrap();
    let requirements = config.lines().find(|line| line.starts_with("tests_requirements")).unwrap();
    let config = config.replace(requirements, "").replace("\"pytest\"", "\"sh check.sh\"");
    fs::create_dir(person.path("elsewhere")).unwrap();
    fs::write(person.path("elsewhere/mse.toml"), config).unwrap();
    fs::create_dir(person.path("checks")).unwrap();
    let check = "test -n \"$TEST_REMOTE_URL\" && grep -q result_key \"$TEST_SECRET_JSON\" && exit ";
    let line = "home localtest --code example/mse_src --config elsewhere/mse.toml --test checks \
                --dockerfile example/Dockerfile --secrets example/secrets.json";
    for (code, exit) in [("0", 0), ("1", 4)] {
        fs::write(person.path("checks/check.sh"), format!("{check}{code}\n")).unwrap();
        let said = person.talk(line, exit);
        assert!(said.contains("Building natively"), "{said}");
    }
    person.run(&format!("{line} --dockerfile missing/Dockerfile"), 2);
    person.run(&line.replace("example/Dockerfile", "missing/Dockerfile"), 1);
}
