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

fn open(dir: &Path) -> Result<Project, Failure> {
    open_environment(dir, None)
}

fn open_environment(dir: &Path, environment: Option<&str>) -> Result<Project, Failure> {
    let environment = environment.map(str::to_owned);
    Project::open(&FolderOptions { dir: dir.to_owned(), environment })
}

const SITE: &str = "name = \"site\"\n[functions.api]\ncomponent = \"./build//api.wasm\"\nroutes = [\"/api/*\"]\n[assets]\ndir = \"public\"\n";

#[track_caller]
fn check_failure(files: &[(&str, &str)], says: &[&str]) {
    let folder = folder(files);
    let failure = open(folder.path())
        .and_then(|project| project.contents().map(drop))
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
    let project = open(folder.path()).unwrap();
    let names: Vec<String> =
        project.contents().unwrap().files.into_iter().map(|file| file.name).collect();
    assert_eq!(
        names,
        ["squall.toml", "build/api.wasm", "public/.well-known/x", "public/a/b.txt", "public/z.txt"]
    );
    // The file itself may be named, too.
    assert_eq!(open(&folder.path().join("squall.toml")).unwrap().root, folder.path());
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
    let project = open(folder.path()).unwrap();
    let files = project.contents().unwrap().files;
    assert!(files.iter().any(|file| file.name == "public/logo.svg" && file.bytes == 6));
    link("/etc/passwd", "users");
    assert!(project.contents().unwrap_err().to_string().contains("out of the app"));
}

#[tokio::test]
async fn a_build_command_runs_once_and_its_failure_names_it() {
    let text = "name = \"x\"\n[functions.a]\ncomponent = \"a\"\nbuild = \"echo >> ran\"\nroutes = [\"/a\"]\n[functions.b]\ncomponent = \"b\"\nbuild = \"echo >> ran\"\nroutes = [\"/b\"]\n";
    let folder = folder(&[("squall.toml", text)]);
    let project = open(folder.path()).unwrap();
    assert_eq!(project.builds(), [("a, b".to_owned(), "echo >> ran".to_owned())]);
    project.build().await.unwrap();
    assert_eq!(std::fs::read_to_string(folder.path().join("ran")).unwrap(), "\n");
    std::fs::write(folder.path().join("squall.toml"), text.replace("echo >> ran", "exit 7"))
        .unwrap();
    let failure = open(folder.path()).unwrap().build().await.unwrap_err();
    assert_eq!(failure.exit, Exit::Failed);
    assert!(failure.to_string().contains("exit status: 7"), "{failure}");
}

const WORKER: &str = "{ // Settings.\n  \"name\": \"shop\",\n  \"main\": \"src/index.ts\",\n  \"kv_namespaces\": [{ \"binding\": \"CACHE\" }],\n  \"assets\": { \"directory\": \"public\" },\n  \"env\": { \"staging\": {} }\n}\n";
const SOURCE: &str = "export default { fetch: () => new Response(\"hi\") };\n";

#[test]
fn a_workers_project_is_read_where_there_is_no_manifest() {
    let files = [
        ("wrangler.jsonc", WORKER),
        ("src/index.ts", SOURCE),
        ("public/index.html", ""),
        ("public/_headers", ""),
        (".dev.vars", "KEY=1"),
        (".dev.vars.staging", "KEY=2"),
    ];
    let folder = folder(&files);
    let project = open(folder.path()).unwrap();
    assert_eq!(project.warnings.len(), 1);
    for part in ["kv_namespaces: not available yet", "public/_headers: served like any file"] {
        assert!(project.warnings[0].contains(part), "{:?}", project.warnings);
    }
    assert_eq!(project.dev_vars().unwrap().unwrap().values["KEY"], "1");
    let contents = project.contents().unwrap();
    assert_eq!(contents.files[0].name, "squall.toml");
    let Content::Made(text) = &contents.files[0].content else { panic!("{contents:?}") };
    let sent = Manifest::parse(std::str::from_utf8(text).unwrap()).unwrap();
    assert_eq!(sent, project.manifest);
    let inputs: Vec<_> = contents.inputs.iter().filter_map(|path| path.file_name()).collect();
    assert_eq!(inputs, ["index.ts"]);

    let staging = open_environment(folder.path(), Some("staging")).unwrap();
    assert_eq!(staging.manifest.name.as_str(), "shop-staging");
    assert_eq!(staging.dev_vars().unwrap().unwrap().values["KEY"], "2");

    let manifest =
        "name = \"own\"\n[functions.api]\nsource = \"src/index.ts\"\nroutes = [\"/*\"]\n";
    std::fs::write(folder.path().join("squall.toml"), manifest).unwrap();
    let project = open(folder.path()).unwrap();
    assert_eq!(project.manifest.name.as_str(), "own");
    assert_eq!(project.warnings, ["squall.toml is used; wrangler.jsonc is not read"]);
    let named = open(&folder.path().join("wrangler.jsonc")).unwrap();
    assert_eq!(named.manifest.name.as_str(), "shop");
    let refused = open_environment(folder.path(), Some("staging")).unwrap_err();
    assert!(refused.to_string().contains("it has no environments"), "{refused}");
}

#[test]
fn mistakes_in_a_workers_project_point_into_its_file() {
    let broken = WORKER.replace("\"src/index.ts\"", "[]");
    check_failure(
        &[("wrangler.jsonc", &broken)],
        &["SQ0300", "wrangler.jsonc:3:11: main must be text, and is a list"],
    );
    check_failure(&[("wrangler.toml", "name = \n")], &["SQ0300", "wrangler.toml:1:"]);
    check_failure(&[("wrangler.json", WORKER)], &["SQ0313", "no file src/index.ts; correct main"]);
    check_failure(
        &[("wrangler.jsonc", WORKER), ("src/index.ts", SOURCE)],
        &["SQ0313", "assets: the folder"],
    );
    let folder = folder(&[("wrangler.jsonc", WORKER), (".dev.vars", "A=1\nB\n")]);
    let failure = open(folder.path()).unwrap().dev_vars().unwrap_err();
    assert!(failure.to_string().contains(".dev.vars:2:1: this is no variable"), "{failure}");
}

#[test]
fn secrets_of_a_machine_are_never_a_part_of_a_site() {
    let site = "name = \"site\"\n[assets]\ndir = \".\"\n";
    let folder = folder(&[
        ("squall.toml", site),
        ("index.html", ""),
        (".dev.vars", "KEY=1"),
        (".dev.vars.staging", "KEY=1"),
        ("sub/.dev.vars", "KEY=1"),
        ("wrangler.toml", ""),
    ]);
    let files = open(folder.path()).unwrap().contents().unwrap().files;
    let names: Vec<&str> = files.iter().map(|file| file.name.as_str()).collect();
    assert_eq!(names, ["squall.toml", "index.html"]);
}
