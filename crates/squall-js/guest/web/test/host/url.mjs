// The operations of URL, with node's own.

function describeUrl(url) {
  const { href } = url;
  const protocolEnd = url.protocol.length;
  const hashStart = href.indexOf("#");
  const beforeHash = hashStart < 0 ? href.length : hashStart;
  const question = href.indexOf("?");
  const searchStart = question >= 0 && question < beforeHash ? question : -1;
  const pathEnd = searchStart >= 0 ? searchStart : beforeHash;
  const pathStart = pathEnd - url.pathname.length;
  const rest = href.slice(protocolEnd, pathStart);
  let usernameEnd = protocolEnd;
  let hostStart = protocolEnd;
  let hostEnd = protocolEnd;
  if (rest.startsWith("//") && !(url.host === "" && url.pathname.startsWith("//") && rest === "/.")) {
    usernameEnd = protocolEnd + 2 + url.username.length;
    const at = rest.lastIndexOf("@");
    hostStart = at < 0 ? protocolEnd + 2 : protocolEnd + at + 1;
    hostEnd = hostStart + url.hostname.length;
  }
  const port = url.port === "" ? -1 : Number(url.port);
  return [href, protocolEnd, usernameEnd, hostStart, hostEnd, port, pathStart, searchStart, hashStart];
}

function parseUrl(text, base) {
  try {
    return describeUrl(base === null ? new URL(text) : new URL(text, base));
  } catch {
    return null;
  }
}

function setUrl(href, property, value) {
  const url = new URL(href);
  url[property] = value;
  return describeUrl(url);
}

export const urlOperations = { 110: parseUrl, 111: setUrl };
