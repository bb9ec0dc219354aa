//! From the text of one script to a syntax tree in plain JavaScript.

use std::path::Path;

use oxc_allocator::Allocator;
use oxc_ast::ast::{Program, Statement};
use oxc_diagnostics::OxcDiagnostic;
use oxc_parser::{ParseOptions, Parser};
use oxc_resolver::{CompilerOptions, TsConfig};
use oxc_semantic::{Scoping, SemanticBuilder};
use oxc_span::SourceType;
use oxc_transformer::{
    DecoratorOptions, ES2026Options, EnvOptions, HelperLoaderMode, HelperLoaderOptions, JsxOptions,
    JsxRuntime, TransformOptions, Transformer, TypeScriptOptions,
};

use crate::diagnostic::Diagnostic;
use crate::module::Format;
use crate::path::{extension, in_package};
use crate::runtime;

pub(crate) struct Script<'a> {
    pub(crate) program: Program<'a>,
    pub(crate) scoping: Scoping,
    pub(crate) format: Format,
}

pub(crate) fn parse<'a>(
    allocator: &'a Allocator,
    source: &'a str,
    path: &Path,
    name: &str,
    tsconfig: Option<&TsConfig>,
    module_package: bool,
) -> Result<Script<'a>, Vec<Diagnostic>> {
    let source_type = source_type(path);
    let parsed = Parser::new(allocator, source, source_type)
        .with_options(ParseOptions {
            allow_return_outside_function: !source_type.is_module(),
            preserve_parens: false,
            ..ParseOptions::default()
        })
        .parse();
    if parsed.panicked || parsed.diagnostics.has_errors() {
        return Err(explain(name, source, parsed.diagnostics.into_vec()));
    }
    let has_module_syntax = parsed.module_record.has_module_syntax;
    let mut program = parsed.program;

    // Code of a package has been built by its author: only what is newer than the engine is left.
    let transforms = source_type.is_typescript() || !in_package(path) || source.contains("using ");
    let semantic = SemanticBuilder::new()
        .with_check_syntax_error(!in_package(path))
        .with_enum_eval(source_type.is_typescript())
        .with_excess_capacity(if transforms { 1.0 } else { 0.0 })
        .build(&program);
    if semantic.diagnostics.has_errors() {
        return Err(explain(name, source, semantic.diagnostics.into_vec()));
    }
    let mut scoping = semantic.semantic.into_scoping();
    let format = format(path, &program, &scoping, has_module_syntax, module_package);
    // The transformer imports its helpers as the module itself would.
    program.source_type = match format {
        Format::EsModule => program.source_type.with_module(true),
        Format::CommonJs => program.source_type.with_commonjs(true),
    };

    if transforms {
        let options = transform_options(tsconfig.map(|config| &config.compiler_options));
        let transformed = Transformer::new(allocator, Path::new(name), &options)
            .build_with_scoping(scoping, &mut program);
        if transformed.diagnostics.has_errors() {
            return Err(explain(name, source, transformed.diagnostics.into_vec()));
        }
        // What the transformer added and removed is not in its scoping in every case.
        scoping = SemanticBuilder::new().build(&program).semantic.into_scoping();
    }
    Ok(Script { program, scoping, format })
}

fn format(
    path: &Path,
    program: &Program<'_>,
    scoping: &Scoping,
    has_module_syntax: bool,
    module_package: bool,
) -> Format {
    let exports_assignment =
        program.body.iter().any(|statement| matches!(statement, Statement::TSExportAssignment(_)));
    if exports_assignment || matches!(extension(path).as_str(), "cjs" | "cts") {
        return Format::CommonJs;
    }
    // A script with `await` outside of functions has been read as a module.
    let waits = program.source_type.is_javascript() && program.source_type.is_module();
    if has_module_syntax || waits || module_package {
        return Format::EsModule;
    }
    let globals = scoping.root_unresolved_references();
    let uses = |name: &str| globals.keys().any(|global| global.as_str() == name);
    if uses("module") || uses("exports") || uses("require") || in_package(path) {
        Format::CommonJs
    } else {
        Format::EsModule
    }
}

fn source_type(path: &Path) -> SourceType {
    let script = SourceType::mjs().with_unambiguous(true);
    match extension(path).as_str() {
        "mjs" => SourceType::mjs(),
        "cjs" => SourceType::cjs(),
        "jsx" => script.with_jsx(true),
        "ts" | "mts" => SourceType::ts(),
        "cts" => SourceType::ts().with_commonjs(true),
        "tsx" => SourceType::tsx(),
        // A project may write JSX into `.js` files, where it cannot mean anything else.
        _ => script.with_jsx(!in_package(path)),
    }
}

fn transform_options(compiler: Option<&CompilerOptions>) -> TransformOptions {
    let none = CompilerOptions::default();
    let compiler = compiler.unwrap_or(&none);
    let classic = compiler.jsx.as_deref() == Some("react");
    TransformOptions {
        typescript: TypeScriptOptions {
            only_remove_type_imports: compiler.verbatim_module_syntax == Some(true)
                || compiler.preserve_value_imports == Some(true),
            remove_class_fields_without_initializer: !defines_class_fields(compiler),
            optimize_const_enums: true,
            ..TypeScriptOptions::default()
        },
        decorator: DecoratorOptions {
            legacy: compiler.experimental_decorators == Some(true),
            emit_decorator_metadata: compiler.emit_decorator_metadata == Some(true),
            ..DecoratorOptions::default()
        },
        jsx: JsxOptions {
            runtime: if classic { JsxRuntime::Classic } else { JsxRuntime::Automatic },
            import_source: if classic { None } else { compiler.jsx_import_source.clone() },
            pragma: if classic { compiler.jsx_factory.clone() } else { None },
            pragma_frag: if classic { compiler.jsx_fragment_factory.clone() } else { None },
            display_name_plugin: false,
            ..JsxOptions::enable()
        },
        env: EnvOptions {
            es2026: ES2026Options { explicit_resource_management: true },
            ..EnvOptions::default()
        },
        helper_loader: HelperLoaderOptions {
            module_name: runtime::HELPERS.into(),
            mode: HelperLoaderMode::Runtime,
        },
        ..TransformOptions::default()
    }
}

/// `useDefineForClassFields`, whose default depends on the target of the compiler.
fn defines_class_fields(compiler: &CompilerOptions) -> bool {
    compiler.use_define_for_class_fields.unwrap_or_else(|| {
        let target = compiler.target.as_deref().unwrap_or("esnext").to_lowercase();
        match target.strip_prefix("es") {
            Some("next") => true,
            Some(year) => year.parse::<u32>().is_ok_and(|year| year >= 2022),
            None => true,
        }
    })
}

fn explain(name: &str, source: &str, errors: Vec<OxcDiagnostic>) -> Vec<Diagnostic> {
    errors
        .into_iter()
        .filter(|error| error.severity == oxc_diagnostics::Severity::Error)
        .map(|error| {
            let message = error.message.to_string();
            let mut diagnostic = match error.labels.first() {
                Some(label) => Diagnostic::at(name, source, label.offset() as usize, message),
                None => Diagnostic::of_file(name, message),
            };
            diagnostic.hint = error.help.as_ref().map(ToString::to_string);
            diagnostic
        })
        .collect()
}
