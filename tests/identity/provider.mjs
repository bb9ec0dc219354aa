// An OpenID provider on 127.0.0.1 for scripts/test-identity.
//
//   node provider.mjs PORT KEYS...   KEYS are names of generations of keys, the newest first
//
// A generation's keys are made when it is named for the first time and kept in its file, so
// that a provider that is started again has them still.

import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { exportJWK, generateKeyPair } from "jose";
import { Provider } from "oidc-provider";

const [port, ...generations] = process.argv.slice(2);
const algorithms = ["RS256", "PS256", "ES256", "EdDSA"];

async function keysOf(generation) {
  const file = `${generation}.keys.json`;
  if (!existsSync(file)) {
    const keys = [];
    for (const alg of algorithms) {
      const { privateKey } = await generateKeyPair(alg, { extractable: true });
      keys.push({ ...(await exportJWK(privateKey)), kid: `${generation}-${alg}`, alg, use: "sig" });
    }
    writeFileSync(file, JSON.stringify(keys));
  }
  return JSON.parse(readFileSync(file, "utf8"));
}

// `urn:shop:ES256` is the shop with tokens of ES256; the audience is what stands before.
function resource(context, name) {
  const [, audience, alg = "RS256"] = name.split(":");
  return {
    audience,
    scope: "orders:read orders:write",
    accessTokenFormat: "jwt",
    accessTokenTTL: audience === "brief" ? 1 : 3600,
    jwt: { sign: { alg } },
  };
}

const keys = (await Promise.all(generations.map(keysOf))).flat();
const provider = new Provider(`http://127.0.0.1:${port}`, {
  jwks: { keys },
  clients: [
    {
      client_id: "robot",
      client_secret: "robot-secret",
      grant_types: ["client_credentials"],
      redirect_uris: [],
      response_types: [],
    },
  ],
  enabledJWA: { idTokenSigningAlgValues: algorithms },
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: false },
    resourceIndicators: { enabled: true, getResourceServerInfo: resource },
  },
});
provider.listen(Number(port), "127.0.0.1", () => console.log("ready"));
