//! Turns the syntax tree of one module into what stands in the output.
//!
//! Imports and exports go; every name becomes the one that it has in the output; `require`,
//! `import()` and `import.meta` become what answers them.

use oxc_allocator::{Allocator, ArenaBox, ArenaVec, TakeIn};
use oxc_ast::ast::{
    AssignmentTargetMaybeDefault, AssignmentTargetProperty, BindingIdentifier, BindingPattern,
    CallExpression, ClassType, Declaration, ExportDefaultDeclarationKind, Expression, FunctionType,
    IdentifierName, IdentifierReference, NumberBase, Program, PropertyKey, Statement,
    TaggedTemplateExpression, VariableDeclaration, VariableDeclarationKind, VariableDeclarator,
};
use oxc_ast::builder::AstBuilder;
use oxc_ast_visit::{VisitMut, walk_mut};
use oxc_span::{GetSpan, SPAN, Span};
use oxc_syntax::operator::UnaryOperator;
use oxc_syntax::symbol::SymbolId;
use rustc_hash::FxHashMap;

use crate::link::{Binding, Interop, Links};
use crate::module::{ENTRY, Graph, Module, ModuleId, RequestKind, Target};
use crate::name::{Names, Value};
use crate::runtime;

pub(crate) struct Rewriter<'a, 'g> {
    allocator: &'a Allocator,
    builder: AstBuilder<'a>,
    graph: &'g Graph<'a>,
    links: &'g Links,
    names: &'g Names,
    id: ModuleId,
    module: &'g Module<'a>,
    /// `require` and `import()` by the place of their specifier.
    lazy: FxHashMap<u32, usize>,
}

/// The statements of a module as they are printed; of an ES module, the ones that stay.
pub(crate) fn rewrite<'a>(
    allocator: &'a Allocator,
    graph: &Graph<'a>,
    links: &Links,
    names: &Names,
    id: ModuleId,
    live: &[bool],
    program: &mut Program<'a>,
) -> ArenaVec<'a, Statement<'a>> {
    let module = &graph.modules[id];
    let lazy = module
        .requests
        .iter()
        .enumerate()
        .filter(|(_, request)| request.kind != RequestKind::Static)
        .map(|(index, request)| (request.span.start, index))
        .collect();
    let builder = AstBuilder::new(allocator);
    let mut rewriter = Rewriter { allocator, builder, graph, links, names, id, module, lazy };

    let mut statements = ArenaVec::new_in(&allocator);
    for (statement, &live) in program.body.take_in(&allocator).into_iter().zip(live) {
        if live && let Some(mut statement) = rewriter.without_export(statement) {
            rewriter.visit_statement(&mut statement);
            statements.push(statement);
        }
    }
    statements
}

impl<'a> Rewriter<'a, '_> {
    fn without_export(&self, statement: Statement<'a>) -> Option<Statement<'a>> {
        match statement {
            Statement::ImportDeclaration(_)
            | Statement::ExportAllDeclaration(_)
            | Statement::ExportFromDeclaration(_)
            | Statement::ExportNamedDeclaration(_) => None,
            Statement::ExportDeclaration(mut export) => {
                Some(Statement::from(export.declaration.take_in(&self.allocator)))
            }
            Statement::ExportDefaultDeclaration(mut export) => {
                Some(self.default_export(export.span, export.declaration.take_in(&self.allocator)))
            }
            other => Some(other),
        }
    }

    fn default_export(
        &self,
        span: Span,
        declaration: ExportDefaultDeclarationKind<'a>,
    ) -> Statement<'a> {
        let name = self.text(&self.names.modules[self.id].anonymous);
        let identifier = || BindingIdentifier::new(SPAN, name, &self.builder);
        match declaration {
            ExportDefaultDeclarationKind::FunctionDeclaration(mut function) => {
                function.r#type = FunctionType::FunctionDeclaration;
                function.id.get_or_insert_with(identifier);
                Statement::from(Declaration::FunctionDeclaration(function))
            }
            ExportDefaultDeclarationKind::ClassDeclaration(mut class) => {
                class.r#type = ClassType::ClassDeclaration;
                class.id.get_or_insert_with(identifier);
                Statement::from(Declaration::ClassDeclaration(class))
            }
            other => {
                let value = Expression::try_from(other).unwrap_or_else(|()| self.undefined(span));
                let pattern = BindingPattern::new_binding_identifier(SPAN, name, &self.builder);
                let declarator =
                    VariableDeclarator::new(span, pattern, None, Some(value), false, &self.builder);
                Statement::from(Declaration::VariableDeclaration(VariableDeclaration::boxed(
                    span,
                    VariableDeclarationKind::Const,
                    ArenaVec::from_array_in([declarator], &self.allocator),
                    false,
                    &self.builder,
                )))
            }
        }
    }

    fn text(&self, text: &str) -> &'a str {
        self.allocator.alloc_str(text)
    }

    fn name(&self, span: Span, name: &str) -> Expression<'a> {
        Expression::new_identifier(span, self.text(name), &self.builder)
    }

    fn string(&self, span: Span, text: &str) -> Expression<'a> {
        Expression::new_string_literal(span, self.text(text), None, &self.builder)
    }

    fn undefined(&self, span: Span) -> Expression<'a> {
        let zero =
            Expression::new_numeric_literal(SPAN, 0.0, None, NumberBase::Decimal, &self.builder);
        Expression::new_unary_expression(span, UnaryOperator::Void, zero, &self.builder)
    }

    fn call(&self, span: Span, function: &str, argument: Option<&str>) -> Expression<'a> {
        let mut arguments = ArenaVec::new_in(&self.allocator);
        if let Some(argument) = argument {
            arguments.push(self.string(SPAN, argument).into());
        }
        let callee = self.name(span, function);
        Expression::new_call_expression(span, callee, None, arguments, false, &self.builder)
    }

    fn value(&self, span: Span, binding: &Binding) -> Expression<'a> {
        match self.names.value(self.graph, binding) {
            Value::Name(name) => self.name(span, name),
            Value::Property(object, property) => {
                let object = self.name(span, object);
                if oxc_syntax::identifier::is_identifier_name(property) {
                    let name = IdentifierName::new(span, self.text(property), &self.builder);
                    Expression::new_static_member_expression(
                        span,
                        object,
                        name,
                        false,
                        &self.builder,
                    )
                } else {
                    let name = self.string(span, property);
                    Expression::new_computed_member_expression(
                        span,
                        object,
                        name,
                        false,
                        &self.builder,
                    )
                }
            }
            Value::Undefined => self.undefined(span),
        }
    }

    fn symbol(&self, identifier: &IdentifierReference<'a>) -> Option<SymbolId> {
        self.module.scoping.get_reference(identifier.reference_id.get()?).symbol_id()
    }

    fn imported(&self, expression: &Expression<'a>) -> Option<&Binding> {
        let Expression::Identifier(identifier) = expression else { return None };
        self.links.imports[self.id].get(&self.symbol(identifier)?)
    }

    /// The output's name for a variable that is not an import, when it is another one.
    fn renamed(&self, symbol: SymbolId) -> Option<&'a str> {
        self.names.modules[self.id].renamed.get(&symbol).map(|name| self.text(name))
    }

    /// What a `CommonJS` module finds in its own scope without declaring it.
    fn global(&self, identifier: &IdentifierReference<'a>) -> Option<Expression<'a>> {
        let span = identifier.span;
        Some(match identifier.name.as_str() {
            "require" => self.name(span, runtime::REQUIRE),
            "global" => self.name(span, "globalThis"),
            "__filename" if !self.module.is_es_module() => {
                self.string(span, &format!("/{}", self.module.name))
            }
            "__dirname" if !self.module.is_es_module() => self.string(span, &self.folder()),
            _ => return None,
        })
    }

    fn folder(&self) -> String {
        let folder = self.module.name.rsplit_once('/').map_or("", |(folder, _)| folder);
        format!("/{folder}")
    }

    /// `import.meta.url` and its like: a place in the project, not one on a machine.
    fn import_meta(&self, span: Span, property: &str) -> Option<Expression<'a>> {
        Some(match property {
            "url" => self.string(span, &format!("file:///{}", self.module.name)),
            "filename" => self.string(span, &format!("/{}", self.module.name)),
            "dirname" => self.string(span, &self.folder()),
            "main" => Expression::new_boolean_literal(span, self.id == ENTRY, &self.builder),
            _ => return None,
        })
    }

    fn lazy_answer(&self, span: Span, specifier: &Expression<'a>) -> Option<Expression<'a>> {
        let request = &self.module.requests[*self.lazy.get(&specifier.span().start)?];
        let required = request.kind == RequestKind::Require;
        Some(match &request.target {
            Target::Module(target) => {
                let names = &self.names.modules[*target];
                let strict = Links::interop(self.module) == Interop::Strict
                    && !self.graph.modules[*target].is_es_module();
                let function =
                    if required { &names.require } else { &names.import[usize::from(strict)] };
                self.call(span, function, None)
            }
            Target::External(external) if required => {
                self.name(span, self.names.external(external, "default"))
            }
            Target::External(external) => {
                let source = self.string(span, external);
                Expression::new_import_expression(span, source, None, None, &self.builder)
            }
            Target::Missing => {
                let function = if required { runtime::MISSING } else { runtime::MISSING_IMPORT };
                self.call(span, function, Some(&request.specifier))
            }
        })
    }

    fn replacement(&self, expression: &Expression<'a>) -> Option<Expression<'a>> {
        match expression {
            Expression::Identifier(identifier) => match self.imported(expression) {
                Some(binding) => Some(self.value(identifier.span, binding)),
                None if self.symbol(identifier).is_none() => self.global(identifier),
                None => None,
            },
            Expression::StaticMemberExpression(member) => {
                let property = member.property.name.as_str();
                if let Expression::ImportMeta(_) = member.object {
                    return self.import_meta(member.span, property);
                }
                let namespace = self.imported(&member.object)?;
                let binding = self.links.property(self.graph, namespace, property)?;
                Some(self.value(member.span, &binding))
            }
            Expression::CallExpression(call) => {
                let Expression::Identifier(callee) = &call.callee else { return None };
                if callee.name != "require" || self.symbol(callee).is_some() {
                    return None;
                }
                let [argument] = call.arguments.as_slice() else { return None };
                self.lazy_answer(call.span, argument.as_expression()?)
            }
            Expression::ImportExpression(import) => self.lazy_answer(import.span, &import.source),
            _ => None,
        }
    }

    /// An imported function is called without `this`, also where it is a property now.
    fn called(&self, callee: &mut Expression<'a>) {
        let Some(binding) = self.imported(callee) else { return };
        let span = callee.span();
        let value = self.value(span, binding);
        *callee = if matches!(value, Expression::Identifier(_)) {
            value
        } else {
            let zero = Expression::new_numeric_literal(
                SPAN,
                0.0,
                None,
                NumberBase::Decimal,
                &self.builder,
            );
            Expression::new_sequence_expression(
                span,
                ArenaVec::from_array_in([zero, value], &self.allocator),
                &self.builder,
            )
        };
    }
}

impl<'a> VisitMut<'a> for Rewriter<'a, '_> {
    fn visit_expression(&mut self, expression: &mut Expression<'a>) {
        match self.replacement(expression) {
            Some(replacement) => *expression = replacement,
            None => walk_mut::walk_expression(self, expression),
        }
    }

    fn visit_argument(&mut self, argument: &mut oxc_ast::ast::Argument<'a>) {
        match argument.as_expression_mut() {
            Some(expression) => self.visit_expression(expression),
            None => walk_mut::walk_argument(self, argument),
        }
    }

    fn visit_call_expression(&mut self, call: &mut CallExpression<'a>) {
        self.called(&mut call.callee);
        walk_mut::walk_call_expression(self, call);
    }

    fn visit_tagged_template_expression(&mut self, template: &mut TaggedTemplateExpression<'a>) {
        self.called(&mut template.tag);
        walk_mut::walk_tagged_template_expression(self, template);
    }

    fn visit_binding_identifier(&mut self, identifier: &mut BindingIdentifier<'a>) {
        if let Some(name) = identifier.symbol_id.get().and_then(|symbol| self.renamed(symbol)) {
            identifier.name = name.into();
        }
    }

    fn visit_identifier_reference(&mut self, identifier: &mut IdentifierReference<'a>) {
        if let Some(name) = self.symbol(identifier).and_then(|symbol| self.renamed(symbol)) {
            identifier.name = name.into();
        }
    }

    /// `({ name } = value)` keeps the property's name when the variable gets another one.
    fn visit_assignment_target_property(&mut self, property: &mut AssignmentTargetProperty<'a>) {
        if let AssignmentTargetProperty::AssignmentTargetPropertyIdentifier(short) = property
            && let Some(name) = self.symbol(&short.binding).and_then(|symbol| self.renamed(symbol))
        {
            let span = short.span;
            let key = PropertyKey::StaticIdentifier(ArenaBox::new_in(
                IdentifierName::new(short.binding.span, short.binding.name, &self.builder),
                &self.allocator,
            ));
            let binding_span = short.binding.span;
            let target = AssignmentTargetMaybeDefault::new_assignment_target_identifier(
                binding_span,
                name,
                &self.builder,
            );
            let value = match short.init.take() {
                None => target,
                Some(mut init) => {
                    self.visit_expression(&mut init);
                    AssignmentTargetMaybeDefault::new_assignment_target_with_default(
                        span,
                        oxc_ast::ast::AssignmentTarget::new_assignment_target_identifier(
                            binding_span,
                            name,
                            &self.builder,
                        ),
                        init,
                        &self.builder,
                    )
                }
            };
            *property = AssignmentTargetProperty::new_assignment_target_property_property(
                span,
                key,
                value,
                false,
                &self.builder,
            );
            return;
        }
        walk_mut::walk_assignment_target_property(self, property);
    }
}
