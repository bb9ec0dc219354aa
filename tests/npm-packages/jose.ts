import { deepEqual, equal } from "node:assert/strict";
import * as jose from "jose";
import { program, thrownBy } from "./program";

const secret = new TextEncoder().encode("a secret of thirty-two bytes, yes");

function claims(algorithm: string): jose.SignJWT {
  return new jose.SignJWT({ role: "admin" })
    .setProtectedHeader({ alg: algorithm })
    .setIssuer("squall")
    .setAudience("tests")
    .setIssuedAt()
    .setExpirationTime("2h");
}

const expected = { issuer: "squall", audience: "tests" };

export default program(
  async () => {
    const token = await claims("HS256").sign(secret);
    const { payload, protectedHeader } = await jose.jwtVerify(token, secret, expected);
    deepEqual([payload["role"], protectedHeader.alg], ["admin", "HS256"]);

    for (const algorithm of ["ES256", "ES384", "EdDSA", "RS256", "PS256"]) {
      const { publicKey, privateKey } = await jose.generateKeyPair(algorithm, { extractable: true });
      const signed = await claims(algorithm).sign(privateKey);
      equal((await jose.jwtVerify(signed, publicKey, expected)).payload.iss, "squall");

      // By way of a JWK set, as a verifier does it.
      const jwk = { ...(await jose.exportJWK(publicKey)), kid: "one", alg: algorithm };
      const keys = jose.createLocalJWKSet({ keys: [jwk] });
      equal((await jose.jwtVerify(signed, keys, expected)).payload.aud, "tests");
      const pem = await jose.importPKCS8(await jose.exportPKCS8(privateKey), algorithm);
      await jose.jwtVerify(await claims(algorithm).sign(pem), publicKey, expected);

      const [head, body, signature] = signed.split(".");
      const forged = `${head}.${jose.base64url.encode(JSON.stringify({ role: "root" }))}.${signature}`;
      equal((await thrownBy(() => jose.jwtVerify(forged, publicKey))).name, "JWSSignatureVerificationFailed");
      equal(body!.length > 0, true);
    }

    const late = await new jose.SignJWT({}).setProtectedHeader({ alg: "HS256" }).setExpirationTime(1).sign(secret);
    equal((await thrownBy(() => jose.jwtVerify(late, secret))).name, "JWTExpired");
    equal((await thrownBy(() => jose.jwtVerify(token, secret, { issuer: "other" }))).name, "JWTClaimValidationFailed");

    const sealed = await new jose.EncryptJWT({ hidden: true })
      .setProtectedHeader({ alg: "dir", enc: "A256GCM" })
      .encrypt(secret.slice(0, 32));
    equal((await jose.jwtDecrypt(sealed, secret.slice(0, 32))).payload["hidden"], true);
  },
  // The initialisation vector is drawn for each.
  async () => [
    await new jose.EncryptJWT({})
      .setProtectedHeader({ alg: "dir", enc: "A256GCM" })
      .encrypt(secret.slice(0, 32)),
  ],
);
