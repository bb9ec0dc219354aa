//! What is known when the bundle is made: `process.env.NODE_ENV`, and the branches it decides.
//!
//! Packages choose between a development and a production build with `require` in two branches.
//! The branch that cannot run must be gone before anybody looks at what it requires.

use oxc_allocator::{Allocator, TakeIn};
use oxc_ast::ast::{
    BinaryOperator, Expression, LogicalOperator, Program, Statement, UnaryOperator,
    VariableDeclarationKind,
};
use oxc_ast::builder::AstBuilder;
use oxc_ast_visit::{Visit, VisitMut, walk, walk_mut};
use oxc_semantic::Scoping;
use oxc_span::SPAN;
use oxc_syntax::scope::ScopeFlags;

pub(crate) fn define<'a>(
    allocator: &'a Allocator,
    program: &mut Program<'a>,
    scoping: &Scoping,
    mode: &str,
) {
    if !program.source_text.contains("NODE_ENV") {
        return;
    }
    let mode = allocator.alloc_str(mode);
    let builder = AstBuilder::new(allocator);
    Definer { allocator, builder, scoping, mode }.visit_program(program);
}

struct Definer<'a, 's> {
    allocator: &'a Allocator,
    builder: AstBuilder<'a>,
    scoping: &'s Scoping,
    mode: &'a str,
}

impl<'a> Definer<'a, '_> {
    /// `process.env.NODE_ENV` and `globalThis.process.env.NODE_ENV`.
    fn is_node_env(&self, expression: &Expression<'a>) -> bool {
        let Some(env) = property(expression, "NODE_ENV") else { return false };
        let Some(process) = property(env, "env") else { return false };
        match property(process, "process") {
            Some(global) => self.is_global(global, "globalThis"),
            None => self.is_global(process, "process"),
        }
    }

    fn is_global(&self, expression: &Expression<'a>, name: &str) -> bool {
        matches!(expression, Expression::Identifier(identifier)
        if identifier.name == name
            && identifier.reference_id.get().is_some_and(|reference| {
                self.scoping.get_reference(reference).symbol_id().is_none()
            }))
    }

    fn boolean(&self, value: bool) -> Expression<'a> {
        Expression::new_boolean_literal(SPAN, value, &self.builder)
    }

    fn fold_expression(&self, expression: &mut Expression<'a>) {
        let folded = match expression {
            Expression::BinaryExpression(binary) => {
                let (Expression::StringLiteral(left), Expression::StringLiteral(right)) =
                    (&binary.left, &binary.right)
                else {
                    return;
                };
                let same = left.value == right.value;
                match binary.operator {
                    BinaryOperator::Equality | BinaryOperator::StrictEquality => self.boolean(same),
                    BinaryOperator::Inequality | BinaryOperator::StrictInequality => {
                        self.boolean(!same)
                    }
                    _ => return,
                }
            }
            Expression::UnaryExpression(unary) if unary.operator == UnaryOperator::LogicalNot => {
                let Expression::BooleanLiteral(literal) = &unary.argument else { return };
                self.boolean(!literal.value)
            }
            Expression::LogicalExpression(logical) => {
                let Expression::BooleanLiteral(left) = &logical.left else { return };
                match (logical.operator, left.value) {
                    (LogicalOperator::And, true) | (LogicalOperator::Or, false) => {
                        logical.right.take_in(&self.allocator)
                    }
                    (LogicalOperator::And, false) | (LogicalOperator::Or, true) => {
                        self.boolean(left.value)
                    }
                    (LogicalOperator::Coalesce, _) => return,
                }
            }
            Expression::ConditionalExpression(conditional) => match &conditional.test {
                Expression::BooleanLiteral(test) if test.value => {
                    conditional.consequent.take_in(&self.allocator)
                }
                Expression::BooleanLiteral(_) => conditional.alternate.take_in(&self.allocator),
                _ => return,
            },
            _ => return,
        };
        *expression = folded;
    }

    fn fold_statement(&self, statement: &mut Statement<'a>) {
        let Statement::IfStatement(choice) = statement else { return };
        let Expression::BooleanLiteral(test) = &choice.test else { return };
        let test = test.value;
        let dropped = if test { choice.alternate.as_ref() } else { Some(&choice.consequent) };
        if dropped.is_some_and(declares_outside) {
            return;
        }
        let kept = if test {
            Some(choice.consequent.take_in(&self.allocator))
        } else {
            choice.alternate.as_mut().map(|alternate| alternate.take_in(&self.allocator))
        };
        *statement = kept.unwrap_or_else(|| Statement::new_empty_statement(SPAN, &self.builder));
    }
}

impl<'a> VisitMut<'a> for Definer<'a, '_> {
    fn visit_expression(&mut self, expression: &mut Expression<'a>) {
        if self.is_node_env(expression) {
            *expression = Expression::new_string_literal(SPAN, self.mode, None, &self.builder);
            return;
        }
        walk_mut::walk_expression(self, expression);
        self.fold_expression(expression);
    }

    fn visit_statement(&mut self, statement: &mut Statement<'a>) {
        walk_mut::walk_statement(self, statement);
        self.fold_statement(statement);
    }
}

fn property<'e, 'a>(expression: &'e Expression<'a>, name: &str) -> Option<&'e Expression<'a>> {
    match expression {
        Expression::StaticMemberExpression(member) if member.property.name == name => {
            Some(&member.object)
        }
        Expression::ComputedMemberExpression(member) => match &member.expression {
            Expression::StringLiteral(literal) if literal.value == name => Some(&member.object),
            _ => None,
        },
        _ => None,
    }
}

/// Whether a branch declares something that is seen outside of it: `var`, or a function of sloppy
/// mode.
fn declares_outside(statement: &Statement<'_>) -> bool {
    struct Finder(bool);
    impl<'a> Visit<'a> for Finder {
        fn visit_variable_declaration(
            &mut self,
            declaration: &oxc_ast::ast::VariableDeclaration<'a>,
        ) {
            self.0 |= declaration.kind == VariableDeclarationKind::Var;
            walk::walk_variable_declaration(self, declaration);
        }
        fn visit_function(&mut self, function: &oxc_ast::ast::Function<'a>, _: ScopeFlags) {
            self.0 |= function.is_declaration();
        }
        fn visit_arrow_function_expression(
            &mut self,
            _: &oxc_ast::ast::ArrowFunctionExpression<'a>,
        ) {
        }
    }
    let mut finder = Finder(false);
    finder.visit_statement(statement);
    finder.0
}
