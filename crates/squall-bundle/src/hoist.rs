//! Moves the variables of a module out of the function that the module becomes.
//!
//! Other modules read the variables of a wrapped module as they read those of any other. So they
//! are declared beside the function, and what was a declaration inside it becomes an assignment.

use oxc_allocator::{Allocator, ArenaVec, TakeIn};
use oxc_ast::ast::{
    ArrayAssignmentTarget, ArrowFunctionExpression, AssignmentOperator, AssignmentTarget,
    AssignmentTargetMaybeDefault, AssignmentTargetPattern, AssignmentTargetProperty,
    AssignmentTargetRest, BindingPattern, Class, Expression, ForStatementInit, ForStatementLeft,
    Function, ObjectAssignmentTarget, Statement, VariableDeclaration, VariableDeclarationKind,
};
use oxc_ast::builder::AstBuilder;
use oxc_ast_visit::{VisitMut, walk_mut};
use oxc_span::{GetSpan, SPAN};
use oxc_syntax::scope::ScopeFlags;

pub(crate) struct Hoisted<'a> {
    /// Function declarations, which are usable before the module runs.
    pub(crate) functions: ArenaVec<'a, Statement<'a>>,
    pub(crate) variables: Vec<String>,
    /// What is left to do when the module runs.
    pub(crate) body: ArenaVec<'a, Statement<'a>>,
}

pub(crate) fn hoist<'a>(
    allocator: &'a Allocator,
    statements: ArenaVec<'a, Statement<'a>>,
) -> Hoisted<'a> {
    let mut hoister =
        Hoister { allocator, builder: AstBuilder::new(allocator), variables: Vec::new(), depth: 0 };
    let mut functions = ArenaVec::new_in(&allocator);
    let mut body = ArenaVec::new_in(&allocator);
    for mut statement in statements {
        match statement {
            Statement::FunctionDeclaration(_) => functions.push(statement),
            Statement::ClassDeclaration(mut class) => {
                let name = class.id.as_ref().map(|id| id.name.to_string()).unwrap_or_default();
                let value = class.take_in_box(&allocator);
                body.push(hoister.assign_class(&name, value));
                hoister.variables.push(name);
            }
            _ => {
                hoister.visit_statement(&mut statement);
                body.push(statement);
            }
        }
    }
    let mut variables = hoister.variables;
    variables.sort();
    variables.dedup();
    Hoisted { functions, variables, body }
}

struct Hoister<'a> {
    allocator: &'a Allocator,
    builder: AstBuilder<'a>,
    variables: Vec<String>,
    /// How many blocks the walk is inside of: only `var` reaches out of them.
    depth: usize,
}

impl<'a> Hoister<'a> {
    fn assign_class(
        &self,
        name: &str,
        mut class: oxc_allocator::ArenaBox<'a, Class<'a>>,
    ) -> Statement<'a> {
        class.r#type = oxc_ast::ast::ClassType::ClassExpression;
        let name = self.allocator.alloc_str(name);
        let target = AssignmentTarget::new_assignment_target_identifier(SPAN, name, &self.builder);
        let span = class.span;
        self.assignment(span, target, Expression::ClassExpression(class))
    }

    fn assignment(
        &self,
        span: oxc_span::Span,
        target: AssignmentTarget<'a>,
        value: Expression<'a>,
    ) -> Statement<'a> {
        let assignment = Expression::new_assignment_expression(
            span,
            AssignmentOperator::Assign,
            target,
            value,
            &self.builder,
        );
        Statement::new_expression_statement(span, assignment, &self.builder)
    }

    fn leaves(&self, declaration: &VariableDeclaration<'a>) -> bool {
        declaration.kind == VariableDeclarationKind::Var || self.depth == 0
    }

    /// The declaration as one expression; `None` when nothing is assigned.
    fn assignments(&mut self, declaration: &mut VariableDeclaration<'a>) -> Option<Expression<'a>> {
        let mut expressions = ArenaVec::new_in(&self.allocator);
        for declarator in &mut declaration.declarations {
            let span = declarator.span;
            let target = self.target(declarator.id.take_in(&self.allocator));
            // `let x;` gives x a value each time it is reached; `var x;` does not.
            let value = match declarator.init.take() {
                Some(value) => value,
                None if declaration.kind == VariableDeclarationKind::Var => continue,
                None => Expression::new_identifier(SPAN, "undefined", &self.builder),
            };
            expressions.push(Expression::new_assignment_expression(
                span,
                AssignmentOperator::Assign,
                target,
                value,
                &self.builder,
            ));
        }
        match expressions.len() {
            0 => None,
            1 => expressions.pop(),
            _ => Some(Expression::new_sequence_expression(SPAN, expressions, &self.builder)),
        }
    }

    /// A pattern of a declaration as a pattern of an assignment; its names are noted.
    fn target(&mut self, pattern: BindingPattern<'a>) -> AssignmentTarget<'a> {
        match pattern {
            BindingPattern::BindingIdentifier(identifier) => {
                self.variables.push(identifier.name.to_string());
                AssignmentTarget::new_assignment_target_identifier(
                    identifier.span,
                    identifier.name,
                    &self.builder,
                )
            }
            BindingPattern::ObjectPattern(mut object) => {
                let mut properties = ArenaVec::new_in(&self.allocator);
                for property in object.properties.take_in(&self.allocator) {
                    let value = self.target_or_default(property.value);
                    properties.push(
                        AssignmentTargetProperty::new_assignment_target_property_property(
                            property.span,
                            property.key,
                            value,
                            property.computed,
                            &self.builder,
                        ),
                    );
                }
                let rest = object.rest.take().map(|mut rest| {
                    let target = self.target(rest.argument.take_in(&self.allocator));
                    AssignmentTargetRest::boxed(rest.span, target, &self.builder)
                });
                AssignmentTarget::from(AssignmentTargetPattern::ObjectAssignmentTarget(
                    ObjectAssignmentTarget::boxed(object.span, properties, rest, &self.builder),
                ))
            }
            BindingPattern::ArrayPattern(mut array) => {
                let mut elements = ArenaVec::new_in(&self.allocator);
                for element in array.elements.take_in(&self.allocator) {
                    elements.push(element.map(|element| self.target_or_default(element)));
                }
                let rest = array.rest.take().map(|mut rest| {
                    let target = self.target(rest.argument.take_in(&self.allocator));
                    AssignmentTargetRest::boxed(rest.span, target, &self.builder)
                });
                AssignmentTarget::from(AssignmentTargetPattern::ArrayAssignmentTarget(
                    ArrayAssignmentTarget::boxed(array.span, elements, rest, &self.builder),
                ))
            }
            // A default stands only inside of a pattern, where `target_or_default` takes it.
            BindingPattern::AssignmentPattern(mut pattern) => {
                self.target(pattern.left.take_in(&self.allocator))
            }
        }
    }

    fn target_or_default(
        &mut self,
        pattern: BindingPattern<'a>,
    ) -> AssignmentTargetMaybeDefault<'a> {
        match pattern {
            BindingPattern::AssignmentPattern(mut pattern) => {
                let target = self.target(pattern.left.take_in(&self.allocator));
                let value = pattern.right.take_in(&self.allocator);
                AssignmentTargetMaybeDefault::new_assignment_target_with_default(
                    pattern.span,
                    target,
                    value,
                    &self.builder,
                )
            }
            other => AssignmentTargetMaybeDefault::from(self.target(other)),
        }
    }
}

impl<'a> VisitMut<'a> for Hoister<'a> {
    fn visit_statement(&mut self, statement: &mut Statement<'a>) {
        if let Statement::VariableDeclaration(declaration) = statement
            && self.leaves(declaration)
        {
            let span = declaration.span();
            *statement = match self.assignments(declaration) {
                Some(expression) => {
                    Statement::new_expression_statement(span, expression, &self.builder)
                }
                None => Statement::new_empty_statement(span, &self.builder),
            };
            return;
        }
        self.depth += 1;
        walk_mut::walk_statement(self, statement);
        self.depth -= 1;
    }

    fn visit_for_statement_init(&mut self, init: &mut ForStatementInit<'a>) {
        if let ForStatementInit::VariableDeclaration(declaration) = init
            && self.leaves(declaration)
        {
            let expression = self.assignments(declaration);
            *init = ForStatementInit::from(
                expression.unwrap_or_else(|| Expression::new_null_literal(SPAN, &self.builder)),
            );
        }
    }

    fn visit_for_statement_left(&mut self, left: &mut ForStatementLeft<'a>) {
        if let ForStatementLeft::VariableDeclaration(declaration) = left
            && self.leaves(declaration)
            && let Some(declarator) = declaration.declarations.first_mut()
        {
            let pattern = declarator.id.take_in(&self.allocator);
            *left = ForStatementLeft::from(self.target(pattern));
        }
    }

    // Functions and classes have variables of their own.
    fn visit_function(&mut self, _: &mut Function<'a>, _: ScopeFlags) {}
    fn visit_arrow_function_expression(&mut self, _: &mut ArrowFunctionExpression<'a>) {}
    fn visit_class(&mut self, _: &mut Class<'a>) {}
}
