// Renders openapi.json for people.

const description = await (await fetch("/openapi.json")).json();

function made(kind, text = "", ...children) {
  const element = document.createElement(kind);
  element.textContent = text;
  element.append(...children);
  return element;
}

const nameOf = (reference) => reference.split("/").pop();

function typeOf(schema) {
  if (schema.$ref) return Object.assign(made("a", nameOf(schema.$ref)), { href: `#${nameOf(schema.$ref)}` });
  if (schema.type === "array") return made("span", "list of ", typeOf(schema.items));
  if (schema.additionalProperties) return made("span", "values by name");
  return made("span", schema.format ?? schema.type ?? "any");
}

function table(properties) {
  const head = made("tr", "", ...["field", "type", "meaning"].map((title) => Object.assign(made("th", title), { scope: "col" })));
  const rows = Object.entries(properties).map(([name, schema]) => {
    const type = made("td", "", typeOf(schema));
    const words = [schema.description, schema.enum && `One of ${schema.enum.join(", ")}.`].filter(Boolean).join(" ");
    return made("tr", "", made("td", "", made("code", name)), type, made("td", words));
  });
  return made("table", "", made("thead", "", head), made("tbody", "", ...rows));
}

function operation(path, verb, { summary, requestBody, parameters, responses }) {
  const section = made("section", "", made("h3", "", made("code", `${verb.toUpperCase()} ${path}`)), made("p", summary));
  section.className = "operation";
  for (const { schema } of Object.values(requestBody?.content ?? {}).slice(0, 1)) {
    const fields = Object.keys(schema.properties ?? {}).map((name) => made("code", ` ${name} `));
    section.append(made("p", "Takes ", ...(schema.$ref ? [typeOf(schema)] : fields)));
  }
  if (parameters) section.append(made("p", `In the path or the query: ${parameters.map((one) => one.name).join(", ")}.`));
  for (const [type, { schema }] of Object.entries(responses["200"]?.content ?? {})) {
    section.append(made("p", `Answers ${type}: `, typeOf(schema)));
  }
  return section;
}

document.getElementById("operations").append(
  ...Object.entries(description.paths).flatMap(([path, verbs]) =>
    Object.entries(verbs).map(([verb, details]) => operation(path, verb, details)),
  ),
);
document.getElementById("schemas").append(
  ...Object.entries(description.components.schemas).map(([name, schema]) => {
    const title = Object.assign(made("h3", name), { id: name });
    const section = made("section", "", title, made("p", schema.description ?? ""));
    section.className = "schema";
    if (schema.properties) section.append(table(schema.properties));
    if (schema.enum) section.append(made("p", `One of ${schema.enum.join(", ")}.`));
    return section;
  }),
);
