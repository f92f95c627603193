// A participant in a page: mediasoup-client 3 with the browser's own WebRTC. Built by esbuild; runs beside page.js.

import * as client from "mediasoup-client3";
import * as protoo from "protoo-client3";

import { media } from "./page-media.js";
import { Party, orders } from "./party3.js";

const party = new Party({ client, protoo, media });
window.orders = orders(party, media);
