// Evaluated once, when the base image is made.
import "./globals.js";
import "./dispatch.js";
