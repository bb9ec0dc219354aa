//! Wraps a core module that carries its WIT world into a component.
//!
//! Usage: `componentize MODULE COMPONENT`. It never changes the code of the module.

use anyhow::Context;

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(input), Some(output), None) = (arguments.next(), arguments.next(), arguments.next())
    else {
        anyhow::bail!("usage: componentize MODULE COMPONENT");
    };
    let module = std::fs::read(&input).with_context(|| format!("cannot read {input}"))?;
    let component = wit_component::ComponentEncoder::default()
        .module(&module)?
        .validate(true)
        .debug_names(false)
        .encode()
        .with_context(|| format!("{input} does not make a component"))?;
    std::fs::write(&output, component).with_context(|| format!("cannot write {output}"))
}
