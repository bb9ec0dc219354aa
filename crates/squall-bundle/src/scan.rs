//! One walk over a module: what it imports and exports, and what each of its statements needs.

use oxc_ast::ast::{
    Argument, AwaitExpression, BindingIdentifier, CallExpression, Declaration,
    ExportDefaultDeclarationKind, ExportNamedDeclaration, Expression, ForOfStatement, Function,
    IdentifierReference, ImportDeclaration, ImportDeclarationSpecifier, ImportExpression,
    ModuleExportName, Program, Statement, StringLiteral, TryStatement, WithClause,
};
use oxc_ast_visit::{Visit, walk};
use oxc_ecmascript::GlobalContext;
use oxc_ecmascript::side_effects::{
    MayHaveSideEffects, MayHaveSideEffectsContext, PropertyReadSideEffects,
};
use oxc_semantic::Scoping;
use oxc_span::{GetSpan, Span};
use oxc_syntax::scope::ScopeFlags;
use oxc_syntax::symbol::SymbolId;
use rustc_hash::FxHashMap;

use crate::module::{Export, Import, ImportName, Part, Request, RequestKind, Target, Use};

/// A mistake that the syntax tree shows.
pub(crate) struct Mistake {
    pub(crate) span: Span,
    pub(crate) message: String,
    pub(crate) hint: Option<&'static str>,
}

#[derive(Default)]
pub(crate) struct Scan {
    pub(crate) requests: Vec<Request>,
    pub(crate) imports: FxHashMap<SymbolId, Import>,
    pub(crate) exports: Vec<(String, Export)>,
    pub(crate) stars: Vec<usize>,
    pub(crate) parts: Vec<Part>,
    pub(crate) has_top_level_await: bool,
    pub(crate) mistakes: Vec<Mistake>,
}

pub(crate) fn scan(program: &Program<'_>, scoping: &Scoping) -> Scan {
    let mut scanner =
        Scanner { scoping, scan: Scan::default(), part: Part::default(), functions: 0, guards: 0 };
    // Imports come first: an export may stand above the import that it passes on.
    for statement in &program.body {
        if let Statement::ImportDeclaration(import) = statement {
            scanner.import(import);
        } else if let Some((source, clause)) = export_source(statement) {
            scanner.static_request(source, clause);
        }
    }
    let mut request = 0;
    for statement in &program.body {
        let asks = matches!(statement, Statement::ImportDeclaration(_))
            || export_source(statement).is_some();
        scanner.statement(statement, request);
        request += usize::from(asks);
    }
    scanner.scan
}

fn export_source<'s, 'a>(
    statement: &'s Statement<'a>,
) -> Option<(&'s StringLiteral<'a>, Option<&'s WithClause<'a>>)> {
    match statement {
        Statement::ExportFromDeclaration(export) => {
            Some((&export.source, export.with_clause.as_deref()))
        }
        Statement::ExportAllDeclaration(export) => {
            Some((&export.source, export.with_clause.as_deref()))
        }
        _ => None,
    }
}

struct Scanner<'s> {
    scoping: &'s Scoping,
    scan: Scan,
    part: Part,
    /// How many functions the walk is inside of.
    functions: usize,
    /// How many `try` blocks, or promises whose rejection is handled.
    guards: usize,
}

impl<'s> Scanner<'s> {
    fn import(&mut self, import: &ImportDeclaration<'_>) {
        let request = self.static_request(&import.source, import.with_clause.as_deref());
        for specifier in import.specifiers.iter().flatten() {
            let (local, name) = match specifier {
                ImportDeclarationSpecifier::ImportSpecifier(named) => {
                    (&named.local, ImportName::Named(export_name(&named.imported)))
                }
                ImportDeclarationSpecifier::ImportDefaultSpecifier(default) => {
                    (&default.local, ImportName::Named("default".to_owned()))
                }
                ImportDeclarationSpecifier::ImportNamespaceSpecifier(all) => {
                    (&all.local, ImportName::Namespace)
                }
            };
            if let Some(symbol) = local.symbol_id.get() {
                self.scan.imports.insert(symbol, Import { request, name, span: specifier.span() });
            }
        }
    }

    fn static_request(
        &mut self,
        source: &StringLiteral<'_>,
        clause: Option<&WithClause<'_>>,
    ) -> usize {
        self.scan.requests.push(Request {
            specifier: source.value.to_string(),
            span: source.span,
            kind: RequestKind::Static,
            text: clause.is_some_and(|clause| {
                clause
                    .with_entries
                    .iter()
                    .any(|entry| entry.key.as_arena_str() == "type" && entry.value.value == "text")
            }),
            guarded: false,
            target: Target::Missing,
        });
        self.scan.requests.len() - 1
    }

    fn lazy_request(&mut self, specifier: &str, span: Span, kind: RequestKind) {
        self.part.requests.push(self.scan.requests.len());
        self.scan.requests.push(Request {
            specifier: specifier.to_owned(),
            span,
            kind,
            text: false,
            guarded: self.guards > 0,
            target: Target::Missing,
        });
    }

    /// `request` is the number of the request that this statement makes, if it makes one.
    fn statement(&mut self, statement: &Statement<'_>, request: usize) {
        match statement {
            Statement::ImportDeclaration(_) => {}
            Statement::ExportAllDeclaration(export) => match &export.exported {
                None => self.scan.stars.push(request),
                Some(name) => {
                    let import = Import { request, name: ImportName::Namespace, span: export.span };
                    self.scan.exports.push((export_name(name), Export::From(import)));
                }
            },
            Statement::ExportFromDeclaration(export) => {
                for specifier in &export.specifiers {
                    let import = Import {
                        request,
                        name: ImportName::Named(export_name(&specifier.local)),
                        span: specifier.span,
                    };
                    self.scan
                        .exports
                        .push((export_name(&specifier.exported), Export::From(import)));
                }
            }
            Statement::ExportNamedDeclaration(export) => self.export_named(export),
            Statement::ExportDeclaration(export) => {
                let declaration = &export.declaration;
                self.part.side_effects = declaration.may_have_side_effects(&Effects(self.scoping));
                self.visit_declaration(declaration);
                for (name, symbol) in declared_names(declaration) {
                    self.scan.exports.push((name, Export::Local(symbol)));
                }
            }
            Statement::ExportDefaultDeclaration(export) => {
                let (symbol, side_effects) = match &export.declaration {
                    ExportDefaultDeclarationKind::FunctionDeclaration(function) => {
                        (function.id.as_ref().and_then(|id| id.symbol_id.get()), false)
                    }
                    ExportDefaultDeclarationKind::ClassDeclaration(class) => (
                        class.id.as_ref().and_then(|id| id.symbol_id.get()),
                        class.may_have_side_effects(&Effects(self.scoping)),
                    ),
                    other => (
                        None,
                        other.as_expression().is_none_or(|expression| {
                            expression.may_have_side_effects(&Effects(self.scoping))
                        }),
                    ),
                };
                let export_is = symbol.map_or(Export::Anonymous, Export::Local);
                self.scan.exports.push(("default".to_owned(), export_is));
                self.part.anonymous_default = symbol.is_none();
                self.part.side_effects = side_effects;
                walk::walk_export_default_declaration(self, export);
            }
            other => {
                self.part.side_effects = other.may_have_side_effects(&Effects(self.scoping));
                self.visit_statement(other);
            }
        }
        let mut part = std::mem::take(&mut self.part);
        part.declares.sort_unstable();
        part.declares.dedup();
        self.scan.parts.push(part);
    }

    fn export_named(&mut self, export: &ExportNamedDeclaration<'_>) {
        for specifier in &export.specifiers {
            let symbol = match &specifier.local {
                ModuleExportName::IdentifierReference(reference) => self.symbol(reference),
                _ => None,
            };
            let Some(symbol) = symbol else {
                self.scan.mistakes.push(Mistake {
                    span: specifier.local.span(),
                    message: format!(
                        "\"{}\" is exported but not declared in this file",
                        specifier.local.name()
                    ),
                    hint: None,
                });
                continue;
            };
            let is = match self.scan.imports.get(&symbol) {
                Some(import) => Export::From(import.clone()),
                None => Export::Local(symbol),
            };
            self.scan.exports.push((export_name(&specifier.exported), is));
        }
    }

    fn symbol(&self, reference: &IdentifierReference<'_>) -> Option<SymbolId> {
        self.scoping.get_reference(reference.reference_id.get()?).symbol_id()
    }

    fn is_module_scope(&self, symbol: SymbolId) -> bool {
        self.scoping.symbol_scope_id(symbol) == self.scoping.root_scope_id()
    }

    fn use_once(&mut self, name: Use) {
        // Most statements mention few names; the ones that mention many repeat the last ones.
        if !self.part.uses.iter().rev().take(16).any(|known| *known == name) {
            self.part.uses.push(name);
        }
    }

    fn is_require(&self, callee: &Expression<'_>) -> bool {
        matches!(callee, Expression::Identifier(identifier)
            if identifier.name == "require" && self.symbol(identifier).is_none())
    }

    fn inside_function(&mut self, visit: impl FnOnce(&mut Self)) {
        self.functions += 1;
        let guards = std::mem::take(&mut self.guards);
        visit(self);
        self.guards = guards;
        self.functions -= 1;
    }
}

impl<'a> Visit<'a> for Scanner<'_> {
    fn visit_binding_identifier(&mut self, identifier: &BindingIdentifier<'a>) {
        if let Some(symbol) = identifier.symbol_id.get()
            && self.is_module_scope(symbol)
        {
            self.part.declares.push(symbol);
        }
    }

    fn visit_identifier_reference(&mut self, identifier: &IdentifierReference<'a>) {
        if let Some(symbol) = self.symbol(identifier)
            && self.is_module_scope(symbol)
        {
            self.use_once(Use::Symbol(symbol));
        }
    }

    fn visit_expression(&mut self, expression: &Expression<'a>) {
        if let Expression::StaticMemberExpression(member) = expression
            && let Expression::Identifier(object) = &member.object
            && let Some(symbol) = self.symbol(object)
            && self.scan.imports.contains_key(&symbol)
        {
            self.use_once(Use::Property(symbol, member.property.name.to_string()));
            return;
        }
        walk::walk_expression(self, expression);
    }

    fn visit_call_expression(&mut self, call: &CallExpression<'a>) {
        if self.is_require(&call.callee)
            && let [argument] = call.arguments.as_slice()
            && let Some(specifier) = argument.as_expression().and_then(text_of)
        {
            self.lazy_request(&specifier, argument.span(), RequestKind::Require);
            return;
        }
        if let Expression::StaticMemberExpression(method) = &call.callee
            && matches!(method.object, Expression::ImportExpression(_))
            && (method.property.name == "catch"
                || (method.property.name == "then" && call.arguments.len() == 2))
        {
            self.guards += 1;
            self.visit_expression(&method.object);
            self.guards -= 1;
            for argument in &call.arguments {
                self.visit_argument(argument);
            }
            return;
        }
        walk::walk_call_expression(self, call);
    }

    fn visit_argument(&mut self, argument: &Argument<'a>) {
        match argument.as_expression() {
            // The member access of a namespace is only told apart on whole expressions.
            Some(expression) => self.visit_expression(expression),
            None => walk::walk_argument(self, argument),
        }
    }

    fn visit_import_expression(&mut self, import: &ImportExpression<'a>) {
        match text_of(&import.source) {
            Some(specifier) => {
                self.lazy_request(&specifier, import.source.span(), RequestKind::Dynamic);
            }
            None => walk::walk_import_expression(self, import),
        }
    }

    fn visit_try_statement(&mut self, statement: &TryStatement<'a>) {
        self.guards += usize::from(statement.handler.is_some());
        self.visit_block_statement(&statement.block);
        self.guards -= usize::from(statement.handler.is_some());
        if let Some(handler) = &statement.handler {
            self.visit_catch_clause(handler);
        }
        if let Some(finalizer) = &statement.finalizer {
            self.visit_block_statement(finalizer);
        }
    }

    fn visit_await_expression(&mut self, expression: &AwaitExpression<'a>) {
        self.scan.has_top_level_await |= self.functions == 0;
        walk::walk_await_expression(self, expression);
    }

    fn visit_for_of_statement(&mut self, statement: &ForOfStatement<'a>) {
        self.scan.has_top_level_await |= statement.r#await && self.functions == 0;
        walk::walk_for_of_statement(self, statement);
    }

    fn visit_function(&mut self, function: &Function<'a>, flags: ScopeFlags) {
        self.inside_function(|scanner| walk::walk_function(scanner, function, flags));
    }

    fn visit_arrow_function_expression(
        &mut self,
        function: &oxc_ast::ast::ArrowFunctionExpression<'a>,
    ) {
        self.inside_function(|scanner| walk::walk_arrow_function_expression(scanner, function));
    }

    fn visit_decorator(&mut self, decorator: &oxc_ast::ast::Decorator<'a>) {
        self.scan.mistakes.push(Mistake {
            span: decorator.span,
            message: "Decorators of this form are not supported".to_owned(),
            hint: Some(
                "TypeScript's decorators work: set \"experimentalDecorators\" in tsconfig.json.",
            ),
        });
    }

    fn visit_with_statement(&mut self, statement: &oxc_ast::ast::WithStatement<'a>) {
        self.scan.mistakes.push(Mistake {
            span: statement.span,
            message: "`with` is not allowed in an ES module".to_owned(),
            hint: None,
        });
    }
}

fn export_name(name: &ModuleExportName<'_>) -> String {
    name.name().to_string()
}

/// The value of a literal: a specifier that is known now.
fn text_of(expression: &Expression<'_>) -> Option<String> {
    match expression {
        Expression::StringLiteral(literal) => Some(literal.value.to_string()),
        Expression::TemplateLiteral(template) if template.expressions.is_empty() => {
            template.quasis.first()?.value.cooked.as_ref().map(ToString::to_string)
        }
        _ => None,
    }
}

fn declared_names(declaration: &Declaration<'_>) -> Vec<(String, SymbolId)> {
    struct Names(Vec<(String, SymbolId)>);
    impl<'a> Visit<'a> for Names {
        fn visit_binding_identifier(&mut self, identifier: &BindingIdentifier<'a>) {
            if let Some(symbol) = identifier.symbol_id.get() {
                self.0.push((identifier.name.to_string(), symbol));
            }
        }
        fn visit_expression(&mut self, _: &Expression<'a>) {}
    }
    let mut names = Names(Vec::new());
    match declaration {
        Declaration::VariableDeclaration(variables) => {
            for declarator in &variables.declarations {
                names.visit_binding_pattern(&declarator.id);
            }
        }
        Declaration::FunctionDeclaration(function) => {
            function.id.iter().for_each(|id| names.visit_binding_identifier(id));
        }
        Declaration::ClassDeclaration(class) => {
            class.id.iter().for_each(|id| names.visit_binding_identifier(id));
        }
        _ => {}
    }
    names.0
}

/// What a statement may do besides giving values to names.
///
/// A property may have a getter, so reading one counts. A global that is only named does not:
/// the runtime has the globals that exist, and no getters that anybody waits for.
struct Effects<'s>(&'s Scoping);

impl<'a> GlobalContext<'a> for Effects<'_> {
    fn is_global_reference(&self, reference: &IdentifierReference<'a>) -> bool {
        reference
            .reference_id
            .get()
            .is_none_or(|reference| self.0.get_reference(reference).symbol_id().is_none())
    }
}

impl<'a> MayHaveSideEffectsContext<'a> for Effects<'_> {
    fn annotations(&self) -> bool {
        true
    }

    fn manual_pure_functions(&self, _: &Expression) -> bool {
        false
    }

    fn property_read_side_effects(&self) -> PropertyReadSideEffects {
        PropertyReadSideEffects::All
    }

    fn unknown_global_side_effects(&self) -> bool {
        false
    }
}
