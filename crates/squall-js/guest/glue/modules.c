/* Modules that a program may import: those that the web layer has registered, and no others. The
   program itself comes as one module. */

#include <string.h>

#include "engine.h"

JSValue modules_register(JSContext *ctx, JSValueConst self, int argc, JSValueConst *argv) {
    JSAtom name = JS_ValueToAtom(ctx, argv[0]);
    if (name == JS_ATOM_NULL) return JS_EXCEPTION;
    int set = JS_SetProperty(ctx, engine.modules, name, JS_DupValue(ctx, argv[1]));
    JS_FreeAtom(ctx, name);
    return set < 0 ? JS_EXCEPTION : JS_UNDEFINED;
}

/* Calls `visit` with each enumerable key of the exports; stops when it returns less than 0. */
static int each_export(JSContext *ctx, JSModuleDef *module, JSValueConst exports,
                       int (*visit)(JSContext *, JSModuleDef *, JSValueConst, JSAtom,
                                    const char *)) {
    JSPropertyEnum *keys;
    uint32_t count;
    if (JS_GetOwnPropertyNames(ctx, &keys, &count, exports,
                               JS_GPN_STRING_MASK | JS_GPN_ENUM_ONLY) < 0)
        return -1;
    int result = 0;
    for (uint32_t i = 0; i < count && result >= 0; i++) {
        const char *name = JS_AtomToCString(ctx, keys[i].atom);
        result = name ? visit(ctx, module, exports, keys[i].atom, name) : -1;
        JS_FreeCString(ctx, name);
    }
    JS_FreePropertyEnum(ctx, keys, count);
    return result;
}

static int declare(JSContext *ctx, JSModuleDef *module, JSValueConst exports, JSAtom key,
                   const char *name) {
    if (strcmp(name, "default") == 0) return 0; /* every module has it */
    return JS_AddModuleExport(ctx, module, name);
}

static int define(JSContext *ctx, JSModuleDef *module, JSValueConst exports, JSAtom key,
                  const char *name) {
    JSValue value = JS_GetProperty(ctx, exports, key);
    if (JS_IsException(value)) return -1;
    return JS_SetModuleExport(ctx, module, name, value);
}

static int evaluate(JSContext *ctx, JSModuleDef *module) {
    JSValue exports = JS_GetModulePrivateValue(ctx, module);
    int result = JS_SetModuleExport(ctx, module, "default", JS_DupValue(ctx, exports));
    if (result >= 0) result = each_export(ctx, module, exports, define);
    JS_FreeValue(ctx, exports);
    return result;
}

static JSModuleDef *load(JSContext *ctx, const char *name, void *opaque) {
    (void)opaque;
    JSValue exports = JS_GetPropertyStr(ctx, engine.modules, name);
    if (!JS_IsObject(exports)) {
        JS_FreeValue(ctx, exports);
        JS_ThrowTypeError(ctx, "cannot import \"%s\": no built-in module has this name", name);
        return NULL;
    }
    JSModuleDef *module = JS_NewCModule(ctx, name, evaluate);
    if (!module || JS_AddModuleExport(ctx, module, "default") < 0 ||
        each_export(ctx, module, exports, declare) < 0) {
        JS_FreeValue(ctx, exports);
        return NULL;
    }
    JS_SetModulePrivateValue(ctx, module, exports);
    return module;
}

/* Names are what they are: there is no folder to be relative to. */
static char *normalize(JSContext *ctx, const char *base, const char *name, void *opaque) {
    (void)base, (void)opaque;
    return js_strdup(ctx, name);
}

void modules_install(JSRuntime *runtime) {
    JS_SetModuleLoaderFunc(runtime, normalize, load, NULL);
}
