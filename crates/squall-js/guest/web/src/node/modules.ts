// The modules of Node.js that programs can import here.

import "./assert.js";
import "./async-hooks.js";
import "./buffer.js";
import "./events.js";
import "./path.js";
import "./process.js";
import "./util.js";
