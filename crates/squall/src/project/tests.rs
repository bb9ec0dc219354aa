use super::*;

/// Makes a folder with these files.
pub(crate) fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    folder
}

const SITE: &str = "name = \"site\"\n[functions.api]\ncomponent = \"./build//api.wasm\"\nroutes = [\"/api/*\"]\n[assets]\ndir = \"public\"\n";

#[track_caller]
fn check_failure(files: &[(&str, &str)], says: &[&str]) {
    let folder = folder(files);
    let failure = Project::open(folder.path())
        .and_then(|project| project.files().map(drop))
        .expect_err("this folder is wrong");
    assert_eq!(failure.exit, Exit::Invalid);
    for part in says {
        assert!(failure.to_string().contains(part), "{failure} does not say {part:?}");
    }
}

#[test]
fn files_come_in_a_fixed_order_without_what_belongs_to_tools() {
    let folder = folder(&[
        ("squall.toml", SITE),
        ("build/api.wasm", "\0asm"),
        ("public/z.txt", "z"),
        ("public/a/b.txt", "b"),
        ("public/.well-known/x", "x"),
        ("public/.git/config", "no"),
        ("public/node_modules/m.js", "no"),
        ("public/state/admin.token", "no"),
    ]);
    let project = Project::open(folder.path()).unwrap();
    let names: Vec<String> = project.files().unwrap().into_iter().map(|file| file.name).collect();
    assert_eq!(
        names,
        ["squall.toml", "build/api.wasm", "public/.well-known/x", "public/a/b.txt", "public/z.txt"]
    );
    // The file itself may be named, too.
    assert_eq!(Project::open(&folder.path().join("squall.toml")).unwrap().root, folder.path());
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    check_failure(&[], &["no app in this folder", "squall new"]);
    check_failure(
        &[("squall.toml", "name = \"x\"\nfunctons = 1\n")],
        &["SQ0300", "squall.toml:2:", "did you mean `functions`"],
    );
    check_failure(
        &[("squall.toml", SITE)],
        &["SQ0313", "no file ./build//api.wasm", "add build = "],
    );
    let built = SITE.replace("routes", "build = \"true\"\nroutes");
    check_failure(&[("squall.toml", &built)], &["SQ0313", "after its build command (true)"]);
    check_failure(
        &[("squall.toml", SITE), ("build/api.wasm", "")],
        &["SQ0313", "assets: the folder"],
    );
}

#[test]
fn links_stay_inside_the_folder() {
    let folder = folder(&[
        ("squall.toml", SITE),
        ("build/api.wasm", ""),
        ("shared/logo.svg", "<svg/>"),
        ("public/index.html", ""),
    ]);
    let link = |to: &str, name: &str| {
        std::os::unix::fs::symlink(to, folder.path().join("public").join(name)).unwrap();
    };
    link("../shared/logo.svg", "logo.svg");
    let project = Project::open(folder.path()).unwrap();
    let files = project.files().unwrap();
    assert!(files.iter().any(|file| file.name == "public/logo.svg" && file.bytes == 6));
    link("/etc/passwd", "users");
    assert!(project.files().unwrap_err().to_string().contains("out of the app"));
}

#[tokio::test]
async fn a_build_command_runs_once_and_its_failure_names_it() {
    let text = "name = \"x\"\n[functions.a]\ncomponent = \"a\"\nbuild = \"echo >> ran\"\nroutes = [\"/a\"]\n[functions.b]\ncomponent = \"b\"\nbuild = \"echo >> ran\"\nroutes = [\"/b\"]\n";
    let folder = folder(&[("squall.toml", text)]);
    let project = Project::open(folder.path()).unwrap();
    assert_eq!(project.builds(), [("a, b".to_owned(), "echo >> ran".to_owned())]);
    project.build().await.unwrap();
    assert_eq!(std::fs::read_to_string(folder.path().join("ran")).unwrap(), "\n");
    std::fs::write(folder.path().join("squall.toml"), text.replace("echo >> ran", "exit 7"))
        .unwrap();
    let failure = Project::open(folder.path()).unwrap().build().await.unwrap_err();
    assert_eq!(failure.exit, Exit::Failed);
    assert!(failure.to_string().contains("exit status: 7"), "{failure}");
}
