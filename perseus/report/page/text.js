// SPDX-License-Identifier: Apache-2.0
// Numbers as text, colours, axis ticks and small DOM helpers. All scripts of the page are joined into one.
"use strict";

/** @param {number} value @param {number} digits decimals @returns {string} with U+2212 as minus */
function fixed(value, digits) {
  const text = Math.abs(value).toFixed(digits);
  return value < 0 && Number(text) !== 0 ? "\u2212" + text : text;
}

/** A change with its sign, in percent. @param {number} fraction @param {number} [digits] */
function signedPercent(fraction, digits = 1) {
  const text = fixed(100 * fraction, digits);
  if (Number(text) === 0) return text + "\u202f%";
  return (text.startsWith("\u2212") ? text : "+" + text) + "\u202f%";
}

/**
 * A unit that suits numbers of one size, so that all of a kind line up.
 * @typedef {{name: string, size: number, digits: number}} Unit
 */

/** @param {number} typical @param {[number, string][]} steps falling sizes @returns {Unit} four or five digits */
function suitableUnit(typical, steps) {
  const magnitude = Math.abs(typical);
  const [size, name] = steps.find(([s]) => magnitude >= s) ?? steps[steps.length - 1];
  const whole = Math.max(1, Math.floor(Math.log10(Math.max(magnitude / size, 1e-12))) + 1);
  return {name, size, digits: Math.min(6, Math.max(0, 4 - whole))};
}

/** @param {number} seconds */
const timeUnit = (seconds) => suitableUnit(seconds, [[1, "s"], [1e-3, "ms"], [1e-6, "µs"]]);
/** @param {number} joules */
const energyUnit = (joules) => suitableUnit(joules, [[1e9, "GJ"], [1e6, "MJ"], [1e3, "kJ"], [1, "J"], [1e-3, "mJ"]]);
/** @param {number} watts */
const powerUnit = (watts) => suitableUnit(watts, [[1e6, "MW"], [1e3, "kW"], [1, "W"]]);

/** @param {number} value @param {Unit} unit @param {number} [more] further decimals */
function inUnit(value, unit, more = 0) {
  return fixed(value / unit.size, unit.digits + more);
}

/** @param {number} value @param {Unit} unit @param {number} [more] */
function withUnit(value, unit, more = 0) {
  return inUnit(value, unit, more) + "\u202f" + unit.name;
}

/** A quantity on its own, in the unit that suits it. @param {number} value @param {(v: number) => Unit} unitOf */
function alone(value, unitOf) {
  return value === 0 ? "0\u202f" + unitOf(1).name : withUnit(value, unitOf(value));
}

/**
 * Round numbers inside [low, high], 1, 2 or 5 times a power of ten apart.
 * @param {number} low @param {number} high @param {number} count
 * @returns {{values: number[], digits: number}}
 */
function ticks(low, high, count) {
  const raw = (high - low) / Math.max(count, 1);
  const power = 10 ** Math.floor(Math.log10(raw));
  const digit = raw / power;
  const step = power * (digit < 1.5 ? 1 : digit < 3.5 ? 2 : digit < 7.5 ? 5 : 10);
  const values = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9 * step; ++k) values.push(k === 0 ? 0 : k * step);
  return {values, digits: Math.max(0, -Math.floor(Math.log10(step) + 1e-9))};
}

/** @typedef {{css: string, isLight: boolean}} Shade */

/**
 * A ramp as a table of ready colours.
 * @param {string[]} stops "#rrggbb", evenly spaced
 * @returns {(position: number) => Shade}
 */
function makeRamp(stops) {
  const steps = 256;
  const channels = stops.map((stop) => [1, 3, 5].map((i) => parseInt(stop.slice(i, i + 2), 16)));
  /** @type {Shade[]} */
  const table = [];
  for (let k = 0; k < steps; ++k) {
    const position = k / (steps - 1) * (stops.length - 1);
    const left = Math.min(Math.floor(position), stops.length - 2);
    const mix = [0, 1, 2].map((c) => channels[left][c] + (channels[left + 1][c] - channels[left][c]) * (position - left));
    const [red, green, blue] = mix.map(Math.round);
    table.push({css: `rgb(${red},${green},${blue})`, isLight: 0.299 * red + 0.587 * green + 0.114 * blue > 140});
  }
  return (position) => table[Math.round(Math.min(1, Math.max(0, position)) * (steps - 1))];
}

/** @param {string} id @returns {HTMLElement} */
function byId(id) {
  const element = document.getElementById(id);
  if (!element) throw new Error(`the page lacks #${id}`);
  return element;
}

/**
 * An HTML element with classes and children; strings become text, never markup.
 * @param {string} tag @param {string} [className] @param {...(Node|string)} children
 */
function el(tag, className = "", ...children) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.append(...children);
  return element;
}

/** @param {string} tag @param {Record<string, string|number>} attributes @param {string} [text] */
function svg(tag, attributes, text) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) {
    element.setAttribute(name, typeof value === "number" ? String(Math.round(value * 100) / 100) : value);
  }
  if (text !== undefined) element.textContent = text;
  return element;
}

/** @param {string} name of a custom property of the style sheet */
function themeColor(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

/** The page's one floating box of details. */
const tip = {
  /** @param {number} x client coordinates @param {number} y @param {string} title @param {[string, string][]} rows */
  show(x, y, title, rows) {
    const box = byId("tip");
    const table = el("table");
    for (const [name, value] of rows) table.append(el("tr", "", el("td", "", name), el("td", "", value)));
    box.replaceChildren(el("strong", "", title), table);
    box.hidden = false;
    const {width, height} = box.getBoundingClientRect();
    const left = x + 16 + width > innerWidth - 8 ? x - 16 - width : x + 16;
    const top = y + 16 + height > innerHeight - 8 ? y - 16 - height : y + 16;
    box.style.left = `${Math.max(8, left)}px`;
    box.style.top = `${Math.max(8, top)}px`;
  },
  hide() { byId("tip").hidden = true; },
};
