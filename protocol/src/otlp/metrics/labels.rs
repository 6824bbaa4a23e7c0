//! Where the labels of a batch's series come from, and how they are made when somebody asks.
//!
//! In this order, later ones winning: attributes of the point (those that end up with one name are joined by
//! semicolons, in order of their original names), promoted attributes of the resource that are not there yet, `job` and
//! `instance`, the scope, `le` or `quantile`, the metric's name.

use std::borrow::Cow;
use std::sync::Arc;

use super::Translation;
use crate::labels::{Labels, LabelsError, METRIC_NAME};
use crate::otlp::naming::LabelNaming;
use crate::otlp::value::{MAX_VALUES, check_key_value, label_text, read_text_key_value};
use crate::remote_write::Fault;
use crate::remote_write::wire::{BYTES, Reader};
use crate::write_batch::{Description, LabelLimits, Piece, SeriesError, labels_from_raw};

/// The series that carries all attributes of a resource.
pub(super) const TARGET_INFO: &str = "target_info";

const SERVICE_NAME: &str = "service.name";
const SERVICE_NAMESPACE: &str = "service.namespace";
const SERVICE_INSTANCE: &str = "service.instance.id";
const IDENTIFYING: [&str; 3] = [SERVICE_NAME, SERVICE_NAMESPACE, SERVICE_INSTANCE];

/// What stands behind a family's name, or beside it as a label.
#[derive(Clone, Copy, Debug)]
pub(super) enum Suffix {
    None,
    Sum,
    Count,
    Bucket(f64),
    Quantile(f64),
}

impl Suffix {
    /// What distinguishes it from the others.
    pub fn code(self) -> (u8, u64) {
        match self {
            Self::None => (0, 0),
            Self::Sum => (1, 0),
            Self::Count => (2, 0),
            Self::Bucket(bound) => (3, bound.to_bits()),
            Self::Quantile(quantile) => (4, quantile.to_bits()),
        }
    }

    fn metric_name(self, family: &str) -> Cow<'_, str> {
        match self {
            Self::None | Self::Quantile(_) => Cow::Borrowed(family),
            Self::Sum => Cow::Owned(format!("{family}_sum")),
            Self::Count => Cow::Owned(format!("{family}_count")),
            Self::Bucket(_) => Cow::Owned(format!("{family}_bucket")),
        }
    }

    fn label(self) -> Option<(&'static str, String)> {
        match self {
            Self::Bucket(bound) => Some(("le", number_text(bound))),
            Self::Quantile(quantile) => Some(("quantile", number_text(quantile))),
            Self::None | Self::Sum | Self::Count => None,
        }
    }
}

/// Shortest decimal form, never with an exponent.
fn number_text(value: f64) -> String {
    match value.is_infinite() {
        true => if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned(),
        false => value.to_string(),
    }
}

/// Where one series' labels come from.
#[derive(Debug)]
pub(super) struct Source {
    pub resource: u32,
    pub scope: u32,
    /// Name of the family; `None` is `target_info`.
    pub family: Option<Arc<str>>,
    /// Raw attributes of the point.
    pub attributes: Piece,
    pub suffix: Suffix,
}

impl Source {
    pub fn target_info(resource: u32) -> Self {
        Self { resource, scope: 0, family: None, attributes: Piece::default(), suffix: Suffix::None }
    }
}

/// Names and values, in the order in which they were found.
type Pairs = Vec<(String, String)>;

/// A resource's attributes.
#[derive(Debug)]
struct Resource {
    /// Why no series of the resource can be taken.
    offence: Option<SeriesError>,
    job: String,
    instance: String,
    promoted: Pairs,
    /// What `target_info` says, or empty where there is nothing to say.
    info: Pairs,
}

#[derive(Debug)]
struct Scope {
    offence: Option<SeriesError>,
    labels: Pairs,
}

/// Where the labels of all series of a batch come from.
#[derive(Debug)]
pub(crate) struct Origins {
    translation: Arc<Translation>,
    /// More attributes than this are more labels than a series may have, even if some fall together.
    max_attributes: usize,
    resources: Vec<Resource>,
    scopes: Vec<Scope>,
    /// One for each series.
    sources: Vec<Source>,
}

impl Origins {
    pub(super) fn new(translation: Arc<Translation>, limits: &LabelLimits) -> Self {
        let max_attributes = limits.max_labels.saturating_mul(2).min(MAX_VALUES);
        Self { translation, max_attributes, resources: Vec::new(), scopes: Vec::new(), sources: Vec::new() }
    }

    pub(super) fn translation(&self) -> &Arc<Translation> {
        &self.translation
    }

    pub(super) fn add_source(&mut self, source: Source) {
        self.sources.push(source);
    }

    /// Attributes of a message, all of them text.
    fn read_attributes<'a>(
        &self,
        mut message: Reader<'a>,
        field: u32,
    ) -> Result<Result<Attributes<'a>, SeriesError>, Fault> {
        let (mut left, mut count) = (MAX_VALUES, 0);
        let mut attributes = Ok(Vec::new());
        while !message.is_empty() {
            let (found, wire) = message.tag()?;
            if found != field {
                message.skip(wire)?;
                continue;
            }
            let attribute = message.message(wire)?;
            check_key_value(attribute, &mut left)?;
            count += 1;
            match (&mut attributes, read_text_key_value(attribute)?) {
                (Ok(list), Some((key, value))) if count <= self.max_attributes => {
                    list.push((key, label_text(value)));
                }
                (_, Some(_)) => {}
                (_, None) => attributes = Err(LabelsError::NotUtf8.into()),
            }
        }
        if count > self.max_attributes && attributes.is_ok() {
            attributes = Err(SeriesError::TooManyLabels { count, limit: self.max_attributes / 2 });
        }
        Ok(attributes)
    }

    pub(super) fn add_resource(&mut self, message: Reader<'_>) -> Result<u32, Fault> {
        let (attributes, offence) = match self.read_attributes(message, 1)? {
            Ok(attributes) => (attributes, None),
            Err(offence) => (Vec::new(), Some(offence)),
        };
        let naming = self.translation.label_naming();
        let get =
            |name: &str| attributes.iter().find(|(key, _)| *key == name).map(|(_, value)| value.as_ref());
        let job = match (get(SERVICE_NAMESPACE), get(SERVICE_NAME)) {
            (_, None) => String::new(),
            (None, Some(name)) => name.to_owned(),
            (Some(namespace), Some(name)) => format!("{namespace}/{name}"),
        };
        let instance = get(SERVICE_INSTANCE).unwrap_or_default().to_owned();
        let mut promoted = Pairs::new();
        for (key, value) in attributes.iter().filter(|(key, _)| self.translation.promoted.contains(key)) {
            // Whose name can not be a label's is left where it is.
            if let Some(name) = naming.label_name(key) {
                set(&mut promoted, &name, value);
            }
        }
        let describes = attributes.iter().any(|(key, _)| !IDENTIFYING.contains(key));
        let mut info = Pairs::new();
        if describes && !(job.is_empty() && instance.is_empty()) {
            let keeps = self.translation.keep_identifying_attributes;
            let told = attributes
                .iter()
                .filter(|(key, _)| *key != METRIC_NAME && (keeps || !IDENTIFYING.contains(key)));
            info = join(told.map(|(key, value)| (*key, value.as_ref())).collect(), &naming).0;
            set(&mut info, "job", &job);
            set(&mut info, "instance", &instance);
            set(&mut info, METRIC_NAME, TARGET_INFO);
        }
        self.resources.push(Resource { offence, job, instance, promoted, info });
        Ok((self.resources.len() - 1) as u32)
    }

    pub(super) fn add_scope(&mut self, message: Reader<'_>, schema: &[u8]) -> Result<u32, Fault> {
        let (mut name, mut version) = (&[][..], &[][..]);
        let mut fields = message;
        while !fields.is_empty() {
            let (field, wire) = fields.tag()?;
            match field {
                1 => name = fields.bytes(wire)?,
                2 => version = fields.bytes(wire)?,
                _ => fields.skip(wire)?,
            }
        }
        let attributes = self.read_attributes(message, 3)?;
        if name.is_empty() || !self.translation.promote_scope {
            self.scopes.push(Scope { offence: None, labels: Pairs::new() });
            return Ok((self.scopes.len() - 1) as u32);
        }
        let naming = self.translation.label_naming();
        let mut labels = Pairs::new();
        let (attributes, mut offence) = match attributes {
            Ok(attributes) => (attributes, None),
            Err(offence) => (Vec::new(), Some(offence)),
        };
        for (key, value) in attributes {
            if let Some(name) = naming.label_name(&format!("otel_scope_{key}")) {
                set(&mut labels, &name, &value);
            }
        }
        for (label, value) in
            [("otel_scope_name", name), ("otel_scope_version", version), ("otel_scope_schema_url", schema)]
        {
            match std::str::from_utf8(value) {
                Ok(value) => set(&mut labels, label, value),
                Err(_) => offence = Some(LabelsError::NotUtf8.into()),
            }
        }
        self.scopes.push(Scope { offence, labels });
        Ok((self.scopes.len() - 1) as u32)
    }

    pub(super) fn has_target_info(&self, resource: u32) -> bool {
        !self.resources[resource as usize].info.is_empty()
    }

    /// The labels of a series; `attributes` finds the bytes of a piece.
    pub(crate) fn labels<'b>(
        &self,
        series: usize,
        limits: &LabelLimits,
        bytes: impl Fn(Piece) -> &'b [u8],
    ) -> Result<Labels, SeriesError> {
        let pairs = self.pairs(series, bytes)?;
        let raw: Vec<(&[u8], &[u8])> =
            pairs.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
        labels_from_raw(&raw, limits)
    }

    /// The labels of a series for an error's text, as well as they can be made.
    pub(crate) fn describe<'b>(&self, series: usize, bytes: impl Fn(Piece) -> &'b [u8]) -> String {
        let mut description = Description::default();
        let source = &self.sources[series];
        let name = source.suffix.metric_name(source.family.as_deref().unwrap_or(TARGET_INFO));
        description.push(METRIC_NAME.as_bytes(), name.as_bytes());
        for (key, value) in
            read_run(Reader::new(bytes(source.attributes)), self.max_attributes).unwrap_or_default()
        {
            description.push(key.as_bytes(), value.as_bytes());
        }
        description.finish()
    }

    fn pairs<'b>(&self, series: usize, bytes: impl Fn(Piece) -> &'b [u8]) -> Result<Pairs, SeriesError> {
        let source = &self.sources[series];
        let resource = &self.resources[source.resource as usize];
        if let Some(offence) = &resource.offence {
            return Err(offence.clone());
        }
        let Some(family) = &source.family else { return Ok(resource.info.clone()) };
        let scope = &self.scopes[source.scope as usize];
        if let Some(offence) = &scope.offence {
            return Err(offence.clone());
        }
        let run = Reader::new(bytes(source.attributes));
        let attributes = read_run(run, self.max_attributes)?;
        let naming = self.translation.label_naming();
        let texts = attributes.iter().map(|(key, value)| (*key, value.as_ref()));
        let (mut pairs, unnamed) = join(texts.filter(|(key, _)| *key != METRIC_NAME).collect(), &naming);
        if let Some(name) = unnamed {
            return Err(SeriesError::Untranslatable { name: name.chars().take(64).collect() });
        }
        for (name, value) in &resource.promoted {
            if !pairs.iter().any(|(there, value)| there == name && !value.is_empty()) {
                set(&mut pairs, name, value);
            }
        }
        for (name, value) in [("job", &resource.job), ("instance", &resource.instance)] {
            if !value.is_empty() {
                set(&mut pairs, name, value);
            }
        }
        for (name, value) in &scope.labels {
            set(&mut pairs, name, value);
        }
        if let Some((name, value)) = source.suffix.label() {
            set(&mut pairs, name, &value);
        }
        set(&mut pairs, METRIC_NAME, &source.suffix.metric_name(family));
        Ok(pairs)
    }
}

/// Sets a label, in place of what it was.
fn set(pairs: &mut Pairs, name: &str, value: &str) {
    match pairs.iter_mut().find(|(there, _)| there == name) {
        Some((_, there)) => value.clone_into(there),
        None => pairs.push((name.to_owned(), value.to_owned())),
    }
}

type Attributes<'a> = Vec<(&'a str, Cow<'a, str>)>;

/// The attributes in a point's run of them, which the walker has checked.
fn read_run(mut run: Reader<'_>, max_attributes: usize) -> Result<Attributes<'_>, SeriesError> {
    let mut attributes = Vec::new();
    let mut count = 0;
    while !run.is_empty() {
        let attribute =
            run.tag().and_then(|_| run.message(BYTES)).expect("the walker checked the attributes");
        count += 1;
        if count > max_attributes {
            continue;
        }
        let pair = read_text_key_value(attribute).expect("the walker checked the attributes");
        let (key, value) = pair.ok_or(LabelsError::NotUtf8)?;
        attributes.push((key, label_text(value)));
    }
    match count > max_attributes {
        true => Err(SeriesError::TooManyLabels { count, limit: max_attributes / 2 }),
        false => Ok(attributes),
    }
}

/// Names attributes; those that get one name are joined. Also gives back an attribute that has no name, if there is
/// one.
fn join<'a>(attributes: Vec<(&'a str, &str)>, naming: &LabelNaming) -> (Pairs, Option<&'a str>) {
    let mut unnamed = None;
    let mut named = Vec::with_capacity(attributes.len());
    for (key, value) in attributes {
        match naming.label_name(key) {
            Some(name) => named.push((name, key, value)),
            None => unnamed = Some(key),
        }
    }
    named.sort_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
    let mut pairs: Pairs = Vec::with_capacity(named.len() + 6);
    for (name, _, value) in named {
        match pairs.last_mut() {
            Some((there, text)) if *there == name => {
                text.push_str(if text.is_empty() { "" } else { ";" });
                text.push_str(value);
            }
            _ => pairs.push((name.into_owned(), value.to_owned())),
        }
    }
    (pairs, unnamed)
}
