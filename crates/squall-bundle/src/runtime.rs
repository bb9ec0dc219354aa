//! The JavaScript that is not the user's: what the output calls, printed only when it does.

/// A module that stands for a file which `"browser": { "file": false }` takes away.
pub(crate) const EMPTY_MODULE: &str = "squall-bundle/empty";

/// Where transformed TypeScript imports its helpers from.
pub(crate) const HELPERS: &str = "squall-bundle";

pub(crate) const COMMON_JS: &str = "__squall_commonjs";
pub(crate) const ES_MODULE: &str = "__squall_module";
pub(crate) const ES_MODULE_ASYNC: &str = "__squall_module_async";
pub(crate) const NAMESPACE: &str = "__squall_namespace";
pub(crate) const RE_EXPORT: &str = "__squall_re_export";
pub(crate) const DEFAULT_OF: &str = "__squall_default_of";
pub(crate) const NAMESPACE_OF: &str = "__squall_namespace_of";
pub(crate) const EXPORTS_OF: &str = "__squall_exports_of";
pub(crate) const MISSING: &str = "__squall_missing";
pub(crate) const MISSING_IMPORT: &str = "__squall_missing_import";
pub(crate) const REQUIRE: &str = "__squall_require";

/// Every function of the output with its source, each needing at most those before it.
pub(crate) const FUNCTIONS: [(&str, &str); 11] = [
    // A CommonJS module runs once. When it throws, the next `require` tries again, as in Node.js.
    (COMMON_JS, "function __squall_commonjs(body) {
	let module;
	return () => {
		if (module === undefined) {
			module = { exports: {} };
			try {
				body.call(module.exports, module.exports, module);
			} catch (error) {
				module = undefined;
				throw error;
			}
		}
		return module.exports;
	};
}
"),
    // An ES module that runs late. When it throws, it stays failed (ECMA-262, 16.2.1.5.3).
    (ES_MODULE, "function __squall_module(body) {
	let state = 0, failure;
	return () => {
		if (state === 0) {
			state = 1;
			try {
				body();
			} catch (error) {
				state = 2;
				failure = error;
			}
		}
		if (state === 2) throw failure;
	};
}
"),
    (ES_MODULE_ASYNC, "function __squall_module_async(body) {
	let promise;
	return () => promise ??= body();
}
"),
    (NAMESPACE, "function __squall_namespace(getters) {
	const namespace = Object.create(null);
	for (const name of Object.keys(getters)) {
		Object.defineProperty(namespace, name, { enumerable: true, get: getters[name] });
	}
	return Object.defineProperty(namespace, Symbol.toStringTag, { value: \"Module\" });
}
"),
    (RE_EXPORT, "function __squall_re_export(namespace, exports) {
	if (exports === null || (typeof exports !== \"object\" && typeof exports !== \"function\")) return;
	for (const name of Object.keys(exports)) {
		if (name === \"default\" || Object.hasOwn(namespace, name)) continue;
		Object.defineProperty(namespace, name, { enumerable: true, get: () => exports[name] });
	}
}
"),
    // What holds the default export of a CommonJS module: itself, when it was an ES module once.
    (DEFAULT_OF, "function __squall_default_of(exports) {
	return exports && exports.__esModule ? exports : { default: exports };
}
"),
    (NAMESPACE_OF, "function __squall_namespace_of(exports, strict) {
	if (!strict && exports && exports.__esModule) return exports;
	const namespace = Object.create(null, { default: { enumerable: true, value: exports } });
	if (exports !== null && (typeof exports === \"object\" || typeof exports === \"function\")) {
		for (const name of Object.keys(exports)) {
			if (name === \"default\") continue;
			Object.defineProperty(namespace, name, { enumerable: true, get: () => exports[name] });
		}
	}
	return namespace;
}
"),
    // What `require` of an ES module gives.
    (EXPORTS_OF, "function __squall_exports_of(namespace) {
	if (\"module.exports\" in namespace) return namespace[\"module.exports\"];
	const exports = Object.defineProperty({}, \"__esModule\", { value: true });
	for (const name of Object.keys(namespace)) {
		Object.defineProperty(exports, name, { enumerable: true, get: () => namespace[name] });
	}
	return exports;
}
"),
    (MISSING, "function __squall_missing(name) {
	const error = new Error(`Cannot find module '${name}'`);
	error.code = \"MODULE_NOT_FOUND\";
	throw error;
}
"),
    (MISSING_IMPORT, "async function __squall_missing_import(name) {
	const error = new Error(`Cannot find module '${name}'`);
	error.code = \"ERR_MODULE_NOT_FOUND\";
	throw error;
}
"),
    (REQUIRE, "function __squall_require(name) {
	throw new Error(`require('${name}') cannot be answered: the name was not known when the bundle was made`);
}
"),
];

/// The source of a module that the bundler itself provides.
pub(crate) fn helper(specifier: &str) -> Option<&'static str> {
    if specifier == EMPTY_MODULE {
        return Some("module.exports = {};\n");
    }
    let name = specifier.strip_prefix(HELPERS)?.strip_prefix("/helpers/")?;
    TRANSFORM_HELPERS.iter().find(|(helper, _)| *helper == name).map(|(_, source)| *source)
}

/// What lowered decorators and `using` declarations call, also from `CommonJS` modules.
const TRANSFORM_HELPERS: [(&str, &str); 4] = [
    // Decorators apply from the last to the first; each may replace what it decorates.
    ("decorate", "export { decorate as default, decorate as \"module.exports\" };
function decorate(decorators, target, key, description) {
	const isClass = arguments.length < 3;
	let result = isClass ? target
		: description === null ? Object.getOwnPropertyDescriptor(target, key)
		: description;
	for (let index = decorators.length - 1; index >= 0; index--) {
		const decorator = decorators[index];
		if (!decorator) continue;
		const replaced = isClass ? decorator(result)
			: arguments.length > 3 ? decorator(target, key, result)
			: decorator(target, key);
		result = replaced || result;
	}
	if (arguments.length > 3 && result) Object.defineProperty(target, key, result);
	return result;
}
"),
    ("decorateParam", "export { decorateParam as default, decorateParam as \"module.exports\" };
function decorateParam(index, decorator) {
	return (target, key) => decorator(target, key, index);
}
"),
    ("decorateMetadata", "export { decorateMetadata as default, decorateMetadata as \"module.exports\" };
function decorateMetadata(key, value) {
	if (typeof Reflect === \"object\" && typeof Reflect.metadata === \"function\") {
		return Reflect.metadata(key, value);
	}
}
"),
    // The disposal stack of `using` (ECMAScript 2026, DisposeResources): the last comes first, and
    // an error while disposing does not hide the one before it.
    ("usingCtx", "class SuppressedErrorFallback extends Error {
	constructor(error, suppressed) {
		super();
		this.name = \"SuppressedError\";
		this.error = error;
		this.suppressed = suppressed;
	}
}
export { usingCtx as default, usingCtx as \"module.exports\" };
function usingCtx() {
	const Suppressed = typeof SuppressedError === \"function\" ? SuppressedError : SuppressedErrorFallback;
	const none = {};
	const stack = [];
	let error = none;
	const add = (value, isAsync) => {
		if (value === null || value === undefined) {
			if (isAsync) stack.push({ isAsync });
			return value;
		}
		if (Object(value) !== value) throw new TypeError(\"using declarations hold objects, functions, null, or undefined\");
		let dispose = isAsync ? value[Symbol.asyncDispose ?? Symbol.for(\"Symbol.asyncDispose\")] : undefined;
		if (dispose === undefined || dispose === null) {
			dispose = value[Symbol.dispose ?? Symbol.for(\"Symbol.dispose\")];
		}
		if (typeof dispose !== \"function\") throw new TypeError(\"the value of a using declaration is not disposable\");
		stack.push({ value, dispose, isAsync });
		return value;
	};
	const failed = (reason) => {
		error = error === none ? reason : new Suppressed(reason, error);
	};
	return {
		get e() { return error; },
		set e(reason) { error = reason; },
		u: (value) => add(value, false),
		a: (value) => add(value, true),
		d() {
			const next = () => {
				while (stack.length > 0) {
					const { value, dispose, isAsync } = stack.pop();
					try {
						const result = dispose ? dispose.call(value) : undefined;
						if (isAsync) {
							return Promise.resolve(result).then(next, (reason) => {
								failed(reason);
								return next();
							});
						}
					} catch (reason) {
						failed(reason);
					}
				}
				if (error !== none) throw error;
			};
			return next();
		},
	};
}
"),
];
